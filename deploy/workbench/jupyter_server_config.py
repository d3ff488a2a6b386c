"""JupyterLab of the workbench: it opens at nbs/, and has tiles for the pages of the twin and of the car.

Their guards hold behind the proxy. Each start draws a token. It goes to a page by its environment, and with
each request in a header: in no address, in no log. Host and origin pass unchanged, so a page of another
origin is refused. Who may come at all, Jupyter decides first.
"""
import os
import secrets
import sys
from pathlib import Path

REPOSITORY = Path.cwd()
TOKEN = secrets.token_urlsafe(24)
LOGO = Path('/opt/edgecar/logo.svg')
PILOT = REPOSITORY/'build/export/pilot.tflite'


def edgecar(*words):
    "Return a command line of edgecar, in this Python."
    return [sys.executable, '-c', 'from edgecar.cli import app; app()', *words]


def twin():
    "Return the command that serves the twin, and its page."
    return edgecar('sim', 'serve', '--port', '0', '--page-port', '{port}')


def car():
    "Return the command that drives in the twin, with the pilot of the last loop where there is one."
    pilot = ['--model', str(PILOT)] if PILOT.is_file() else []
    return edgecar('drive', '--profile', 'twin', '--serve', '--page-port', '{port}', *pilot)


def page(command, variable, title, path=''):
    "Return a tile: what starts the page, where its token goes, and what a person reads."
    return dict(command=command(), environment={variable: TOKEN}, timeout=120, new_browser_tab=True,
                request_headers_override={'Authorization': f'Bearer {TOKEN}'},
                # in this category only, JupyterLab shows the picture of a tile
                launcher_entry=dict(title=title, path_info=path, category='Notebook',
                                    icon_path=str(LOGO) if LOGO.is_file() else ''))


c = get_config()  # noqa: F821 (Jupyter defines it)
if 'JUPYTERHUB_API_TOKEN' not in os.environ:   # a hub says this itself; NOTEBOOK_ARGS may say other things
    c.ServerApp.ip, c.ServerApp.port, c.ServerApp.base_url = '0.0.0.0', 8888, os.environ.get('NB_PREFIX', '/')
c.ServerApp.root_dir = str(REPOSITORY)
c.ServerApp.preferred_dir = str(REPOSITORY/'nbs')
c.LabApp.default_url = '/lab/tree/nbs'
c.ServerProxy.servers = dict(twin=page(twin, 'EDGECAR_SIM_TOKEN', 'The twin', 'twin/'),
                             car=page(car, 'EDGECAR_TOKEN', 'Drive', 'car/drive'))
