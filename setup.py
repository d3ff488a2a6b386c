"Packaging: every value comes from settings.ini."
from configparser import ConfigParser
from setuptools import find_packages, setup

conf = ConfigParser()
conf.read("settings.ini")
cfg = conf["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    license="Apache-2.0",
    packages=find_packages(include=["edgecar*"]),
    include_package_data=True,
    package_data={
        "": ["*.csv"],
        "edgecar.sim": ["tracks/*.toml"],
        "edgecar.web": ["drive/*", "twin/*"],
        "edgecar.widgets": ["browser/*"],
    },
    python_requires=f">={cfg['min_python']},<3.12",
    install_requires=cfg["requirements"].split(),
    extras_require={part: cfg[f"{part}_requirements"].split() for part in ("twin", "verify", "widgets")},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
