"""A hub on this machine, whose users get the workbench's image by podman: any UID, group 0, a read-only
root, a home of their own. What differs from test to test is in HUB, a JSON file."""
import asyncio
import json
import os
from pathlib import Path

from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port

HUB = json.loads(Path(os.environ['EDGECAR_TEST_HUB']).read_text())


class ImageSpawner(Spawner):
    "Start a container for each user."
    async def podman(self, *words):
        process = await asyncio.create_subprocess_exec(*HUB['podman'], *words, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return process.returncode, said.decode().strip()

    async def start(self):
        self.ip, self.port = '127.0.0.1', random_port()
        env = [f'--env={name}={value}' for name, value in self.get_env().items()]
        code, said = await self.podman('run', *HUB['options'], *env, HUB['image'], 'start-singleuser.sh',
                                       *HUB['arguments'])
        assert code == 0, said
        return self.ip, self.port

    async def poll(self):
        code, said = await self.podman('inspect', '--format={{.State.Running}}', HUB['name'])
        return None if code == 0 and said == 'true' else 1

    async def stop(self, now=False):
        await self.podman('rm', '--force', '--time=10', HUB['name'])


c = get_config()  # noqa: F821 (JupyterHub defines it)
c.JupyterHub.bind_url = HUB['url']
c.JupyterHub.hub_bind_url = HUB['hub_url']
c.JupyterHub.db_url = f'sqlite:///{HUB["folder"]}/hub.sqlite'
c.JupyterHub.cookie_secret_file = f'{HUB["folder"]}/cookie_secret'
c.JupyterHub.spawner_class = ImageSpawner
c.JupyterHub.authenticator_class = 'dummy'
c.DummyAuthenticator.password = HUB['password']
c.Authenticator.allowed_users = {HUB['user']}
c.ConfigurableHTTPProxy.command = HUB['proxy']
c.ConfigurableHTTPProxy.api_url = HUB['proxy_url']
c.ConfigurableHTTPProxy.pid_file = f'{HUB["folder"]}/proxy.pid'
c.Spawner.env_keep = []
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
c.Spawner.default_url = '/lab/tree/nbs'
