"""The papers in which the surrogates were published."""

from __future__ import annotations

from neurai_core.specs import Reference

WU_2018 = Reference(
    title="Spatio-temporal backpropagation for training high-performance spiking neural networks",
    authors="Wu, Yujie and Deng, Lei and Li, Guoqi and Zhu, Jun and Shi, Luping",
    year=2018,
    doi="10.3389/fnins.2018.00331",
    arxiv="1706.02609",
    bibtex="""@article{wu2018spatiotemporal,
  title   = {Spatio-temporal backpropagation for training high-performance spiking neural networks},
  author  = {Wu, Yujie and Deng, Lei and Li, Guoqi and Zhu, Jun and Shi, Luping},
  journal = {Frontiers in Neuroscience},
  volume  = {12},
  pages   = {331},
  year    = {2018},
  doi     = {10.3389/fnins.2018.00331}
}""",
)

ZENKE_2018 = Reference(
    title="SuperSpike: Supervised learning in multilayer spiking neural networks",
    authors="Zenke, Friedemann and Ganguli, Surya",
    year=2018,
    doi="10.1162/neco_a_01086",
    arxiv="1705.11146",
    bibtex="""@article{zenke2018superspike,
  title   = {{SuperSpike}: Supervised learning in multilayer spiking neural networks},
  author  = {Zenke, Friedemann and Ganguli, Surya},
  journal = {Neural Computation},
  volume  = {30},
  number  = {6},
  pages   = {1514--1541},
  year    = {2018},
  doi     = {10.1162/neco_a_01086}
}""",
)

SHRESTHA_2018 = Reference(
    title="SLAYER: Spike layer error reassignment in time",
    authors="Shrestha, Sumit Bam and Orchard, Garrick",
    year=2018,
    arxiv="1810.08646",
    bibtex="""@inproceedings{shrestha2018slayer,
  title     = {{SLAYER}: Spike layer error reassignment in time},
  author    = {Shrestha, Sumit Bam and Orchard, Garrick},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018},
  note      = {arXiv:1810.08646}
}""",
)

YIN_2021 = Reference(
    title=("Accurate and efficient time-domain classification with adaptive spiking recurrent neural networks"),
    authors="Yin, Bojian and Corradi, Federico and Bohte, Sander M.",
    year=2021,
    doi="10.1038/s42256-021-00397-w",
    arxiv="2103.12593",
    bibtex="""@article{yin2021accurate,
  title   = {Accurate and efficient time-domain classification with adaptive spiking recurrent neural
             networks},
  author  = {Yin, Bojian and Corradi, Federico and Boht{\\'e}, Sander M.},
  journal = {Nature Machine Intelligence},
  volume  = {3},
  pages   = {905--913},
  year    = {2021},
  doi     = {10.1038/s42256-021-00397-w}
}""",
)
