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

FANG_2021 = Reference(
    title="Incorporating learnable membrane time constant to enhance learning of spiking neural networks",
    authors="Fang, Wei and Yu, Zhaofei and Chen, Yanqi and Masquelier, Timothee and Huang, Tiejun and Tian, Yonghong",
    year=2021,
    arxiv="2007.05785",
    bibtex="""@inproceedings{fang2021incorporating,
  title     = {Incorporating learnable membrane time constant to enhance learning of spiking neural networks},
  author    = {Fang, Wei and Yu, Zhaofei and Chen, Yanqi and Masquelier, Timoth{\\'e}e and Huang, Tiejun and
               Tian, Yonghong},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2021},
  note      = {arXiv:2007.05785}
}""",
)

FANG_2023 = Reference(
    title="SpikingJelly: An open-source machine learning infrastructure platform for spike-based intelligence",
    authors="Fang, Wei and Chen, Yanqi and Ding, Jianhao and Yu, Zhaofei and Masquelier, Timothee and others",
    year=2023,
    doi="10.1126/sciadv.adi1480",
    arxiv="2310.16620",
    bibtex="""@article{fang2023spikingjelly,
  title   = {{SpikingJelly}: An open-source machine learning infrastructure platform for spike-based intelligence},
  author  = {Fang, Wei and Chen, Yanqi and Ding, Jianhao and Yu, Zhaofei and Masquelier, Timoth{\\'e}e and others},
  journal = {Science Advances},
  volume  = {9},
  number  = {40},
  pages   = {eadi1480},
  year    = {2023},
  doi     = {10.1126/sciadv.adi1480}
}""",
)

NEFTCI_2019 = Reference(
    title="Surrogate gradient learning in spiking neural networks",
    authors="Neftci, Emre O. and Mostafa, Hesham and Zenke, Friedemann",
    year=2019,
    doi="10.1109/MSP.2019.2931595",
    arxiv="1901.09948",
    bibtex="""@article{neftci2019surrogate,
  title   = {Surrogate gradient learning in spiking neural networks},
  author  = {Neftci, Emre O. and Mostafa, Hesham and Zenke, Friedemann},
  journal = {IEEE Signal Processing Magazine},
  volume  = {36},
  number  = {6},
  pages   = {51--63},
  year    = {2019},
  doi     = {10.1109/MSP.2019.2931595}
}""",
)

HERRANZ_2022 = Reference(
    title="Surrogate gradients design",
    authors="Herranz-Celotti, Luca and Rouat, Jean",
    year=2022,
    arxiv="2202.00282",
    bibtex="""@misc{herranz2022surrogate,
  title  = {Surrogate gradients design},
  author = {Herranz-Celotti, Luca and Rouat, Jean},
  year   = {2022},
  note   = {arXiv:2202.00282}
}""",
)

WEIDEL_2021 = Reference(
    title="WaveSense: Efficient temporal convolutions with spiking neural networks for keyword spotting",
    authors="Weidel, Philipp and Sheik, Sadique",
    year=2021,
    arxiv="2111.01456",
    bibtex="""@misc{weidel2021wavesense,
  title  = {{WaveSense}: Efficient temporal convolutions with spiking neural networks for keyword spotting},
  author = {Weidel, Philipp and Sheik, Sadique},
  year   = {2021},
  note   = {arXiv:2111.01456}
}""",
)

BELLEC_2018 = Reference(
    title="Long short-term memory and learning-to-learn in networks of spiking neurons",
    authors="Bellec, Guillaume and Salaj, Darjan and Subramoney, Anand and Legenstein, Robert and Maass, Wolfgang",
    year=2018,
    arxiv="1803.09574",
    bibtex="""@inproceedings{bellec2018long,
  title     = {Long short-term memory and learning-to-learn in networks of spiking neurons},
  author    = {Bellec, Guillaume and Salaj, Darjan and Subramoney, Anand and Legenstein, Robert and
               Maass, Wolfgang},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018},
  note      = {arXiv:1803.09574}
}""",
)

ESSER_2016 = Reference(
    title="Convolutional networks for fast, energy-efficient neuromorphic computing",
    authors="Esser, Steven K. and Merolla, Paul A. and Arthur, John V. and others",
    year=2016,
    doi="10.1073/pnas.1604850113",
    arxiv="1603.08270",
    bibtex="""@article{esser2016convolutional,
  title   = {Convolutional networks for fast, energy-efficient neuromorphic computing},
  author  = {Esser, Steven K. and Merolla, Paul A. and Arthur, John V. and others},
  journal = {Proceedings of the National Academy of Sciences},
  volume  = {113},
  number  = {41},
  pages   = {11441--11446},
  year    = {2016},
  doi     = {10.1073/pnas.1604850113}
}""",
)

PEREZ_NIEVES_2021 = Reference(
    title="Sparse spiking gradient descent",
    authors="Perez-Nieves, Nicolas and Goodman, Dan F. M.",
    year=2021,
    arxiv="2105.08810",
    bibtex="""@inproceedings{perez2021sparse,
  title     = {Sparse spiking gradient descent},
  author    = {Perez-Nieves, Nicolas and Goodman, Dan F. M.},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {34},
  year      = {2021},
  note      = {arXiv:2105.08810}
}""",
)

BENGIO_2013 = Reference(
    title="Estimating or propagating gradients through stochastic neurons for conditional computation",
    authors="Bengio, Yoshua and Leonard, Nicholas and Courville, Aaron",
    year=2013,
    arxiv="1308.3432",
    bibtex="""@misc{bengio2013estimating,
  title  = {Estimating or propagating gradients through stochastic neurons for conditional computation},
  author = {Bengio, Yoshua and L{\\'e}onard, Nicholas and Courville, Aaron},
  year   = {2013},
  note   = {arXiv:1308.3432}
}""",
)

CAI_2017 = Reference(
    title="Deep learning with low precision by half-wave Gaussian quantization",
    authors="Cai, Zhaowei and He, Xiaodong and Sun, Jian and Vasconcelos, Nuno",
    year=2017,
    arxiv="1702.00953",
    bibtex="""@inproceedings{cai2017deep,
  title     = {Deep learning with low precision by half-wave {Gaussian} quantization},
  author    = {Cai, Zhaowei and He, Xiaodong and Sun, Jian and Vasconcelos, Nuno},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2017},
  note      = {arXiv:1702.00953}
}""",
)

SUETAKE_2022 = Reference(
    title=(
        "S2NN: Time step reduction of spiking surrogate gradients for training energy efficient single-step "
        "neural networks"
    ),
    authors="Suetake, Kazuma and Ikegawa, Shin-ichi and Saiin, Ryuji and Sawada, Yoshihide",
    year=2022,
    arxiv="2201.10879",
    bibtex="""@misc{suetake2022s2nn,
  title  = {{S2NN}: Time step reduction of spiking surrogate gradients for training energy efficient single-step
            neural networks},
  author = {Suetake, Kazuma and Ikegawa, Shin-ichi and Saiin, Ryuji and Sawada, Yoshihide},
  year   = {2022},
  note   = {arXiv:2201.10879}
}""",
)

GERSTNER_2014 = Reference(
    title="Neuronal dynamics: From single neurons to networks and models of cognition",
    authors="Gerstner, Wulfram and Kistler, Werner M. and Naud, Richard and Paninski, Liam",
    year=2014,
    doi="10.1017/CBO9781107447615",
    bibtex="""@book{gerstner2014neuronal,
  title     = {Neuronal dynamics: From single neurons to networks and models of cognition},
  author    = {Gerstner, Wulfram and Kistler, Werner M. and Naud, Richard and Paninski, Liam},
  publisher = {Cambridge University Press},
  year      = {2014},
  doi       = {10.1017/CBO9781107447615}
}""",
)

SINABS = Reference(
    title="Sinabs: a Python library for training spiking neural networks",
    url="https://github.com/synsense/sinabs",
)

NORSE = Reference(
    title="Norse: a library for gradient-based learning with spiking neural networks",
    url="https://github.com/norse/norse",
)
