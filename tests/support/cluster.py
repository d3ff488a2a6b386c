"""A whole cluster on this machine, for a test: etcd, Kubernetes with a real kubelet, a registry.

All of it runs in a room: network, processes and mounts of its own. Nothing in it can be reached from outside,
no packet leaves it, and fixed ports are free. The room's first process reads a pipe that this process holds.
When this process ends, however it does, the pipe closes and the kernel ends all that runs there."""
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import yaml

from support.waiting import wait

ROOT = Path(__file__).parents[2]
NODE, ADMIN, REGISTRY = '10.88.0.1', 'a-token-of-a-test', 'localhost:5000'
TOOLS = dict(unshare='util-linux', nsenter='util-linux', ip='iproute2', runc='runc', skopeo='skopeo',
             cc='gcc', openssl='openssl', **{'docker-registry': 'docker-registry',
                                              'redis-check-rdb': 'redis-tools'})
CGROUPS = 'edgecar-cluster-'   # and the number of the process that made them
MOST_MEMORY = 12 << 30   # of all pods, what they have read of files included
API = f'https://{NODE}:6443'   # its certificate names this address
ROOM = """
mount --make-rshared /
for folder in /run /var/log /var/lib; do mount -t tmpfs none $folder; done
mkdir -p /run/etc/new /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/new,workdir=/run/etc/work none /etc
ip link set lo up
ip link add edgecar0 type bridge
ip address add 10.88.0.1/24 dev edgecar0
ip link set edgecar0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
cat
"""
PAUSE = '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n'
CONTAINERD = """
version = 3
root = '{folder}/containerd'
state = '/run/containerd'
[grpc]
address = '/run/containerd/containerd.sock'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{registry}/pause:1'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{folder}/certs.d'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{folder}/cni'
"""
CNI = dict(cniVersion='1.0.0', name='pods', plugins=[dict(
    type='bridge', bridge='edgecar0', isGateway=True, hairpinMode=True,
    ipam=dict(type='host-local', dataDir='/run/cni', ranges=[[dict(subnet='10.88.0.0/24')]]))])
KUBELET = dict(
    apiVersion='kubelet.config.k8s.io/v1beta1', kind='KubeletConfiguration', failCgroupV1=False,
    cgroupDriver='cgroupfs', enforceNodeAllocatable=[], address=NODE, failSwapOn=False,
    containerRuntimeEndpoint='unix:///run/containerd/containerd.sock',
    authorization=dict(mode='Webhook'), nodeStatusUpdateFrequency='2s', syncFrequency='5s',
    imageGCHighThresholdPercent=100, evictionHard={'memory.available': '100Mi'})


def what_is_lacking():
    "What a cluster needs and this machine has not, as a sentence; empty when there is nothing."
    lacking = {package for command, package in TOOLS.items()
               if not shutil.which(command, path=os.environ['PATH'] + ':/usr/sbin')}
    needed = ['root'] * bool(os.getuid()) + sorted(lacking)
    return f'a cluster needs {" ".join(needed)}' if needed else ''


def build_parts(*names):
    "Build what a cluster is made of, or find it: the folder with the programs."
    done = subprocess.run([ROOT/'scripts/cluster', *names], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, 'scripts/cluster failed, see above'
    return Path(done.stdout.strip())


def child(pid):
    "The first child of a process; None before there is one."
    found = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return int(found[0]) if found else None


def module_folder(module, version):
    "The folder of a Go module, fetched when it is not there."
    done = subprocess.run(['go', 'mod', 'download', '-json', f'{module}@v{version}'], capture_output=True,
                          text=True, env=os.environ | dict(PATH=os.environ['PATH'] + ':/usr/local/go/bin'))
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)['Dir'])


def modules_of_crds():
    "What `tests/platform` reads its schemas from: a module with its version, and which of its files."
    text = (ROOT/'tests/platform/main.go').read_text()
    return re.findall(r'^\t"([^"]+@v[^"]+)": +"([^"]+)",$', text, re.MULTILINE)


def crds():
    "Files with the definitions of others' resources that deploy/ uses."
    for module, pattern in modules_of_crds():
        yield from module_folder(*module.split('@v')).glob(pattern)


class Room:
    "Network, processes and mounts of their own."
    def __init__(self, folder):
        self.folder, self.running = Path(folder), {}
        (self.folder/'log').mkdir(parents=True)
        self.unshare = subprocess.Popen(
            ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc',
             'sh', '-euc', ROOM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.unshare.stdout.readline() == 'ready\n', 'no room of its own -> be root'
        self.first = child(self.unshare.pid)

    def inside(self, *command):
        return ['nsenter', f'--target={self.first}', '--net', '--mount', '--pid', '--', *map(str, command)]

    def run(self, *command, **kw):
        "Run something in the room, to its end."
        return subprocess.run(self.inside(*command), capture_output=True, text=True, **kw)

    def start(self, name, *command, env={}):
        "Start something in the room; what it says goes to `log/NAME`."
        with open(self.folder/'log'/name, 'ab') as log:
            self.running[name] = subprocess.Popen(self.inside(*command), stdout=log, stderr=log,
                                                  stdin=subprocess.DEVNULL, env=os.environ | env)

    def stop(self, name):
        "As a power cut does."
        process = self.running.pop(name)
        if (real := child(process.pid)) is not None:
            os.kill(real, signal.SIGKILL)
        process.wait()

    def said(self, name, lines=15):
        "The last lines of what a process said; with None, all of them."
        found = (self.folder/'log'/name).read_text(errors='replace').splitlines()
        return '\n'.join(found[-lines:] if lines else found)

    def wait(self, true, name, seconds=60):
        "Wait until something holds, as long as the process that has to bring it about runs."
        def holds():
            ended = self.running[name].poll()
            assert ended is None, f'{name} ended with {ended}:\n{self.said(name)}'
            return true()
        try:
            wait(holds, seconds, pause=.05)
        except AssertionError as e:
            raise AssertionError(f'{e}: {name}\n{self.said(name)}') from None

    def close(self):
        "End all that runs in the room, and wait for it."
        self.unshare.stdin.close()
        self.unshare.wait()
        for process in self.running.values():
            process.wait()


def make_cgroups(name):
    "A control group of each kind for all pods, so that none of theirs is left when it is removed."
    for kind in Path('/sys/fs/cgroup').iterdir():
        if (kind/'tasks').is_file():
            (kind/name).mkdir(exist_ok=True)
    if (limit := Path('/sys/fs/cgroup/memory', name, 'memory.limit_in_bytes')).exists():
        limit.write_text(str(MOST_MEMORY))
    for file in ('cpuset.cpus', 'cpuset.mems'):   # empty ones would let no process in
        if (top := Path('/sys/fs/cgroup/cpuset')).is_dir():
            (top/name/file).write_text((top/file).read_text())


def remove_cgroups():
    "Remove the control groups of this process, and those of processes that are no more."
    for top in Path('/sys/fs/cgroup').glob(f'*/{CGROUPS}*'):
        pid = top.name.removeprefix(CGROUPS)
        if pid == str(os.getpid()) or not Path('/proc', pid).exists():
            for folder, _, _ in os.walk(top, topdown=False):
                os.rmdir(folder)


def program_image(file, program, entrypoint):
    "Write an image, as `docker save` does, that holds one program."
    def add(tar, name, text, mode=0o644):
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), mode
        tar.addfile(member, io.BytesIO(text))

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode='w') as tar:
        add(tar, entrypoint.lstrip('/'), Path(program).read_bytes(), 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    settings = dict(architecture='amd64', os='linux', config=dict(Entrypoint=[entrypoint], User='65532'),
                    rootfs=dict(type='layers', diff_ids=[f'sha256:{digest}']))
    with tarfile.open(file, 'w') as tar:
        add(tar, 'layer.tar', layer.getvalue())
        add(tar, 'config.json', json.dumps(settings).encode())
        add(tar, 'manifest.json', json.dumps([dict(Config='config.json', RepoTags=['program:1'],
                                                   Layers=['layer.tar'])]).encode())
    return file


class Cluster(Room):
    """The cluster, in a room; `seconds` says how long each part took until it was ready.

    It has no node before `start_node`: what asks the API server alone needs none."""
    def __init__(self, folder, bin):
        self.bin, self.seconds, self.began = Path(bin), {}, time.monotonic()
        self.authorities = {}   # of registries with a certificate: host -> file
        super().__init__(folder)
        self.cgroups = f'{CGROUPS}{os.getpid()}'
        remove_cgroups()

    def __enter__(self):
        try:
            for step in (self.start_store, self.start_api, self.start_controllers, self.start_registry):
                self.timed(step.__name__.removeprefix('start_'), step)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.close()
        remove_cgroups()
        shutil.rmtree(self.folder, ignore_errors=True)

    def timed(self, name, step, *args):
        "Do a step, and note its seconds."
        began = time.monotonic()
        result = step(*args)
        self.seconds[name] = round(time.monotonic() - began, 1)
        return result

    def times(self):
        "The seconds of each step, a line each."
        return '\n'.join(f'{seconds:7.1f} s  {name}' for name, seconds in self.seconds.items())

    def tell_times(self, config):
        "Print the seconds of each step, whatever pytest captures."
        with config.pluginmanager.getplugin('capturemanager').global_and_fixture_disabled():
            print(f'\n{self.times()}')

    def kubectl(self, *command, input=None, ok=True, token=ADMIN):
        "Ask the API server; what it says is returned, with `ok=False` the whole result."
        done = self.run(self.bin/'kubectl', f'--kubeconfig={self.config("kubectl", token)}', *command,
                        input=input)
        if not ok:
            return done
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *documents):
        "Apply documents, as an administrator does; a field that is no field fails."
        return self.kubectl('apply', '--validate=strict', '-f', '-', input=yaml.safe_dump_all(documents))

    def object(self, *names):
        return json.loads(self.kubectl('get', *names, '-o', 'json'))

    def config(self, name, token):
        "A kubeconfig for one who has this token."
        file = self.folder/f'{name}.kubeconfig'
        server = {'server': API, 'certificate-authority': f'{self.folder}/api/apiserver.crt'}
        here = dict(cluster='here', user='one')
        file.write_text(yaml.safe_dump(dict(
            apiVersion='v1', kind='Config', clusters=[dict(name='here', cluster=server)],
            users=[dict(name='one', user=dict(token=token))], contexts=[dict(name='here', context=here)],
            **{'current-context': 'here'})))
        return file

    def start_store(self):
        self.start('etcd', self.bin/'etcd', '--data-dir', self.folder/'etcd', '--unsafe-no-fsync',
                   '--listen-client-urls=http://127.0.0.1:2379', '--listen-peer-urls=http://127.0.0.1:2380',
                   '--advertise-client-urls=http://127.0.0.1:2379')
        self.wait(lambda: 'ready to serve client requests' in self.said('etcd', 1000), 'etcd')

    def start_api(self):
        api, key = self.folder/'api', self.folder/'accounts.key'
        (self.folder/'tokens.csv').write_text(
            f'{ADMIN},admin,1,system:masters\n'
            'controllers,system:kube-controller-manager,2\nscheduler,system:kube-scheduler,3\n'
            f'node,system:node:{NODE},4,system:nodes\n')
        subprocess.run(['openssl', 'genrsa', '-out', key, '2048'], check=True, capture_output=True)
        # who the API server is, when it asks the kubelet for a log
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj',
                        '/O=system:masters/CN=api', '-addext', 'extendedKeyUsage=clientAuth', '-keyout',
                        self.folder/'client.key', '-out', self.folder/'client.crt'],
                       check=True, capture_output=True)
        self.start('kube-apiserver', self.bin/'kube-apiserver', '--etcd-servers=http://127.0.0.1:2379',
                   f'--cert-dir={api}', f'--token-auth-file={self.folder}/tokens.csv',
                   '--authorization-mode=Node,RBAC', '--enable-admission-plugins=NodeRestriction',
                   f'--service-account-key-file={key}', f'--service-account-signing-key-file={key}',
                   f'--service-account-issuer={API}', '--service-cluster-ip-range=10.96.0.0/16',
                   '--endpoint-reconciler-type=none', '--kubelet-preferred-address-types=InternalIP',
                   f'--kubelet-client-certificate={self.folder}/client.crt',
                   f'--kubelet-client-key={self.folder}/client.key',
                   f'--advertise-address={NODE}', '--allow-privileged')
        def ready():
            return (api/'apiserver.crt').exists() and not self.kubectl('get', '--raw=/readyz',
                                                                      ok=False).returncode
        self.wait(ready, 'kube-apiserver')

    def start_controllers(self):
        config = self.config('controllers', 'controllers')
        self.start('kube-controller-manager', self.bin/'kube-controller-manager', f'--kubeconfig={config}',
                   '--use-service-account-credentials', '--leader-elect=false', '--controllers=*',
                   f'--service-account-private-key-file={self.folder}/accounts.key',
                   f'--root-ca-file={self.folder}/api/apiserver.crt', f'--cert-dir={self.folder}/controllers')
        config = self.config('scheduler', 'scheduler')
        self.start('kube-scheduler', self.bin/'kube-scheduler', f'--kubeconfig={config}',
                   '--leader-elect=false', f'--cert-dir={self.folder}/scheduler')
        self.wait(lambda: not self.kubectl('get', 'serviceaccount', 'default', ok=False).returncode,
                  'kube-controller-manager')

    def start_registry(self):
        (self.folder/'registry.yml').write_text(yaml.safe_dump(dict(
            version='0.1', http=dict(addr='127.0.0.1:5000'),
            storage=dict(filesystem=dict(rootdirectory=f'{self.folder}/registry')))))
        self.start_server_of_images()
        (self.folder/'pause.c').write_text(PAUSE)
        subprocess.run(['cc', '-static', '-o', self.folder/'pause', self.folder/'pause.c'], check=True)
        image = program_image(self.folder/'pause.tar', self.folder/'pause', '/pause')
        self.push(f'docker-archive:{image}', 'pause:1')

    def start_server_of_images(self):
        (self.folder/'log/registry').unlink(missing_ok=True)
        self.start('registry', 'docker-registry', 'serve', self.folder/'registry.yml')
        self.wait(lambda: 'listening on' in self.said('registry', 1000), 'registry')

    def push(self, source, name):
        "Push an image to the registry of the room; its name there, by digest."
        file = self.folder/'digest'
        done = self.run('skopeo', 'copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false',
                        f'--digestfile={file}', source, f'docker://{REGISTRY}/{name}')
        assert done.returncode == 0, done.stderr
        return f'{REGISTRY}/{name.split(":")[0]}@{file.read_text().strip()}'

    def start_node(self):
        "Start what runs pods: containerd and the kubelet."
        f = self.folder
        for name in (f'certs.d/{REGISTRY}', 'cni'):
            (f/name).mkdir(parents=True)
        (f/f'certs.d/{REGISTRY}/hosts.toml').write_text(f'[host."http://{REGISTRY}"]\n')
        for host, ca in self.authorities.items():
            (f/f'certs.d/{host}').mkdir()
            (f/f'certs.d/{host}/hosts.toml').write_text(f'[host."https://{host}"]\nca = "{ca}"\n')
        (f/'cni/pods.conflist').write_text(json.dumps(CNI))
        (f/'containerd.toml').write_text(CONTAINERD.format(folder=f, registry=REGISTRY))
        self.start('containerd', self.bin/'containerd', '--config', f/'containerd.toml',
                   env=dict(PATH=f'{self.bin}:{os.environ["PATH"]}:/usr/sbin:/sbin'))
        self.wait(lambda: 'containerd successfully booted' in self.said('containerd', 1000), 'containerd')
        who = dict(anonymous=dict(enabled=False), webhook=dict(enabled=True),
                   x509=dict(clientCAFile=f'{f}/client.crt'))
        (f/'kubelet.yaml').write_text(yaml.safe_dump(
            KUBELET | dict(cgroupRoot=f'/{self.cgroups}', authentication=who)))
        make_cgroups(self.cgroups)
        self.start('kubelet', self.bin/'kubelet', f'--config={f}/kubelet.yaml',
                   f'--kubeconfig={self.config("node", "node")}', f'--node-ip={NODE}',
                   f'--hostname-override={NODE}', f'--cert-dir={f}/node')
        self.wait(self.node_ready, 'kubelet')

    def node_ready(self):
        done = self.kubectl('get', 'node', NODE, '-o', 'json', ok=False)
        found = json.loads(done.stdout)['status'].get('conditions', []) if not done.returncode else []
        return any((c['type'], c['status']) == ('Ready', 'True') for c in found)
