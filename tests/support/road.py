"""The road of a release on the cluster of `cluster.py`: Tekton, Chains, policy-controller and Argo CD, with a
registry that has a certificate, a git server, an S3 server and a package index beside them.

Controllers are processes of the room, each with the token of the service account that its own documents give
rights to. Pods reach the servers at the address of the node."""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from edgecar.release.base import build_base, put_blob, write_index
from edgecar.release.image import read_json_blob, write_layer
from support.cluster import NODE, ROOT, Cluster, module_folder, program_image

HUB, GIT = f'{NODE}:5443', f'git://{NODE}/edgecar.git'
S3, INDEX = f'http://{NODE}:7070', f'http://{NODE}:8080'
STORE = dict(AWS_ACCESS_KEY_ID='club', AWS_SECRET_ACCESS_KEY='a word of a test', AWS_S3_ENDPOINT=S3,
             AWS_S3_BUCKET='pins', AWS_DEFAULT_REGION='us-east-1')
HERE = 'https://kubernetes.default.svc'
TRUST = dict(REQUESTS_CA_BUNDLE='/etc/ssl/certs/club.crt')   # the registry's authority, in the image
NOT_HERE = {'Deployment', 'StatefulSet', 'HorizontalPodAutoscaler', 'PodDisruptionBudget', 'NetworkPolicy'}
GROUP = 1001   # what .tekton/README.md gives the volumes of a plain Kubernetes
HOOK = """#!/bin/sh
# as Pipelines-as-Code does for a webhook: what a tag's own .tekton says is filled in and created
set -eu
while read -r _ revision name; do
  case $name in refs/tags/v*) ;; *) continue ;; esac
  folder=$(mktemp -d) && git archive "$revision" .tekton | tar -x -C "$folder"
  {bin}/tkn-pac resolve --no-secret -f "$folder/.tekton/release.yaml" -f "$folder/.tekton/tasks" \\
    -p repo_url={url} -p revision="$revision" -p git_tag="${{name#refs/tags/}}" \\
    -p git_auth_secret=edgecar-git >"$folder/run.yaml"
  {bin}/kubectl --kubeconfig={config} -n club create -f "$folder/run.yaml"
  rm -rf "$folder"
done
"""


def pinned_version(name):
    "The version of a part that `scripts/cluster` builds."
    return re.search(rf'\b{name}=([\d.]+)', (ROOT/'scripts/cluster').read_text())[1]


def documents(folder, *patterns):
    "The documents of these files of a module, in the order of their names."
    files = [file for pattern in patterns for file in sorted(Path(folder).glob(pattern))]
    assert files, f'no {patterns} in {folder}'
    return [d for file in files for d in yaml.safe_load_all(file.read_text()) if d]


def served_here(document, ports):
    "A document, for webhooks that are processes of the room: their Service is the node itself."
    name, kind = document['metadata']['name'], document['kind']
    if kind == 'Service':
        document['spec'] = dict(type='ExternalName', externalName='localhost')
    clients = [hook['clientConfig'] for hook in document.get('webhooks', [])]
    if kind == 'CustomResourceDefinition' and 'conversion' in document['spec']:
        clients.append(document['spec']['conversion'].get('webhook', {}).get('clientConfig', {}))
    for client in clients:
        if 'service' in client:
            client['service']['port'] = ports[client['service']['name']]
    return document if kind != 'Service' or name in ports else None


def wheel_index(wheels, to):
    "Lay wheels out as a package index that any server of files can serve."
    for wheel in Path(wheels).iterdir():
        name = wheel.name.split('-')[0] if wheel.suffix == '.whl' else wheel.name.rpartition('-')[0]
        name = re.sub(r'[-_.]+', '-', name).lower()
        (to/'simple'/name).mkdir(parents=True, exist_ok=True)
        os.link(wheel, to/'simple'/name/wheel.name)
    return to


def tools_image(root, to, place, folder):
    "Write the image of a release's steps: a root, and a folder above it, for any user but root."
    shutil.copytree(root, to, copy_function=os.link)
    index = to/'index.json'
    manifest = read_json_blob(to, json.loads(index.read_text())['manifests'][0]['digest'])
    config = read_json_blob(to, manifest['config']['digest'])
    layer, tar = write_layer(folder, place, to)
    config['config'] |= dict(User='1001', WorkingDir='/tmp')
    config['rootfs']['diff_ids'].append(tar)
    config['history'].append(dict(created_by=f'COPY {place}'))
    manifest |= dict(config=put_blob(to, config, 'config.v1+json'), layers=[*manifest['layers'], layer])
    index.unlink()   # a link of what is kept
    (to/'oci-layout').unlink()
    write_index(to, put_blob(to, manifest, 'manifest.v1+json'), 'amd64', 'steps')
    return to


class Road(Cluster):
    "The cluster, and what a release meets on its way."

    def enter_servers(self):
        "Start registry, git, S3 and package index, where pods reach them."
        self.start_hub()
        self.start_git()
        self.start_store_of_pins()
        self.start_index()

    def certificate(self):
        "A certificate of the registry, which is its own authority."
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj',
                        '/CN=registry of a club', '-addext', f'subjectAltName=IP:{NODE}', '-keyout',
                        self.folder/'hub.key', '-out', self.folder/'hub.crt'], check=True,
                       capture_output=True)
        return self.folder/'hub.crt'

    def start_hub(self):
        if not (self.folder/'hub.crt').exists():
            self.authorities[HUB] = self.certificate()
        tls = dict(certificate=f'{self.folder}/hub.crt', key=f'{self.folder}/hub.key')
        (self.folder/'hub.yml').write_text(yaml.safe_dump(dict(
            version='0.1', http=dict(addr=HUB, tls=tls),
            storage=dict(filesystem=dict(rootdirectory=f'{self.folder}/hub')))))
        (self.folder/'log/hub').unlink(missing_ok=True)
        self.start('hub', 'docker-registry', 'serve', self.folder/'hub.yml')
        self.wait(lambda: 'listening on' in self.said('hub', 1000), 'hub')

    def share(self, layout, name):
        "Push an image to the registry that pods reach; its name there, by digest."
        (self.folder/'certificates').mkdir(exist_ok=True)
        shutil.copy(self.folder/'hub.crt', self.folder/'certificates/ca.crt')
        file = self.folder/'shared'
        done = self.run('skopeo', 'copy', '--quiet', '--insecure-policy', f'--digestfile={file}',
                        f'--src-cert-dir={self.folder}/certificates',
                        f'--dest-cert-dir={self.folder}/certificates', layout, f'docker://{HUB}/{name}')
        assert done.returncode == 0, done.stderr
        return f'{HUB}/{name.split(":")[0]}@{file.read_text().strip()}'

    def start_git(self):
        "git's own daemon, with one bare repository that anybody in the room may push to."
        at = self.folder/'git'
        subprocess.run(['git', 'init', '-q', '--bare', '-b', 'main', at/'edgecar.git'], check=True)
        daemon = subprocess.run(['git', '--exec-path'], capture_output=True, text=True).stdout.strip()
        self.start('git', f'{daemon}/git-daemon', f'--listen={NODE}', '--reuseaddr', '--export-all',
                   f'--base-path={at}', '--enable=receive-pack', at)
        self.wait(lambda: not self.run('git', 'ls-remote', GIT).returncode, 'git')

    def start_store_of_pins(self):
        for name in ('pins/pins', 'notes'):
            (self.folder/name).mkdir(parents=True, exist_ok=True)
        self.start('s3', self.s3, '--access', STORE['AWS_ACCESS_KEY_ID'], '--secret',
                   STORE['AWS_SECRET_ACCESS_KEY'], '--port', f'{NODE}:7070', 'posix', '--sidecar',
                   self.folder/'notes', self.folder/'pins')
        self.wait(lambda: not self.run('bash', '-c', f'</dev/tcp/{NODE}/7070').returncode, 's3')

    def tools(self, root):
        "The image that the steps of a release run in, with the registry's authority; its name by digest."
        at = self.folder/'tools'
        name = subprocess.run(['openssl', 'x509', '-noout', '-hash', '-in', self.folder/'hub.crt'], text=True,
                              capture_output=True, check=True).stdout.strip()
        (at/'certs').mkdir(parents=True)
        for file in (f'{name}.0', Path(TRUST['REQUESTS_CA_BUNDLE']).name):   # of a folder, or a file
            shutil.copy(self.folder/'hub.crt', at/'certs'/file)
        layout = tools_image(root, at/'image', 'etc/ssl/certs', at/'certs')
        return self.share(f'oci:{layout}:steps', 'club/tools:1')

    def start_index(self):
        self.start('index', sys.executable, '-m', 'http.server', '8080', '--bind', NODE, '--directory',
                   wheel_index(self.wheels, self.folder/'index'))
        self.wait(lambda: not self.run('bash', '-c', f'</dev/tcp/{NODE}/8080').returncode, 'index')

    def token(self, namespace, account):
        "A kubeconfig for one who has the rights of a service account."
        token = self.kubectl('-n', namespace, 'create', 'token', account, '--duration=8h').strip()
        return self.config(f'{namespace}-{account}', token)

    def install(self, found, ports=None, namespace=None):
        "Apply documents of others, without what would run as a pod."
        kept = [served_here(d, ports or {}) for d in found if d['kind'] not in NOT_HERE]
        if namespace:
            kept = [moved(d, namespace) for d in kept if d]
        first = ('Namespace', 'CustomResourceDefinition')
        kept = sorted(filter(None, kept), key=lambda d: d['kind'] not in first)
        for some in ([d for d in kept if d['kind'] in first], [d for d in kept if d['kind'] not in first]):
            if some:
                self.kubectl('apply', '--server-side', '--force-conflicts', '-f', '-',
                             input=yaml.safe_dump_all(some))
        self.kubectl('wait', '--for=condition=Established', 'crd', '--all')

    def start_knative(self, name, program, account, ports, *words, **env):
        "Start a controller that is made with Knative's library, with the rights of its account."
        namespace, account = account.split(':')
        metrics, profiling, probes = ports
        env = {'SYSTEM_NAMESPACE': namespace, 'POD_NAME': name, 'KUBECONFIG': self.token(namespace, account),
               'KUBERNETES_MIN_VERSION': 'v1.28.0', 'METRICS_DOMAIN': 'tekton.dev/pipeline',
               'CONFIG_LOGGING_NAME': 'config-logging', 'CONFIG_OBSERVABILITY_NAME': 'config-observability',
               'METRICS_PROMETHEUS_PORT': metrics, 'PROFILING_PORT': profiling, 'PROBES_PORT': probes,
               'SSL_CERT_FILE': self.folder/'hub.crt', 'HOME': self.folder} | env
        self.start(name, self.bin/program, *words, env={key: str(value) for key, value in env.items()})

    def start_tekton(self, tools):
        "Tekton Pipelines, from its own documents; `tools` is an image with a shell."
        folder = module_folder('github.com/tektoncd/pipeline', pinned_version('tekton'))
        hook = 'tekton-pipelines-webhook'
        found = documents(folder, 'config/100-namespace/*.yaml', 'config/2*.yaml', 'config/300-crds/*.yaml',
                          'config/500-webhooks.yaml', 'config/config-*.yaml', 'config/webhook.yaml')
        self.install(found, {hook: 8461})
        self.kubectl('-n', 'tekton-pipelines', 'patch', 'configmap', 'feature-flags', '--type=merge', '-p',
                     json.dumps(dict(data={'set-security-context': 'true'})))
        pod = f'securityContext: {{fsGroup: {GROUP}}}'
        self.kubectl('-n', 'tekton-pipelines', 'patch', 'configmap', 'config-defaults', '--type=merge', '-p',
                     json.dumps(dict(data={'default-pod-template': pod})))
        images = {}
        for part in ('entrypoint', 'workingdirinit', 'nop'):
            file = program_image(self.folder/f'{part}.tar', self.bin/f'tekton-{part}', f'/ko-app/{part}')
            images[part] = self.push(f'docker-archive:{file}', f'tekton/{part}:1')
        self.start_knative(hook, 'tekton-webhook', 'tekton-pipelines:tekton-pipelines-webhook',
                           (9461, 8961, 8861), WEBHOOK_PORT=8461, WEBHOOK_SERVICE_NAME=hook,
                           WEBHOOK_SECRET_NAME='webhook-certs', CONFIG_FEATURE_FLAGS_NAME='feature-flags',
                           WEBHOOK_ADMISSION_CONTROLLER_NAME='webhook.pipeline.tekton.dev',
                           CONFIG_LEADERELECTION_NAME='config-leader-election-webhook')
        self.start_knative('tekton-controller', 'tekton-controller',
                           'tekton-pipelines:tekton-pipelines-controller', (9462, 8962, 8862),
                           *(word for part, image in images.items() for word in (f'-{part}-image', image)),
                           '-sidecarlogresults-image', images['nop'], '-shell-image', tools,
                           '-shell-image-win', tools, CONFIG_FEATURE_FLAGS_NAME='feature-flags',
                           CONFIG_DEFAULTS_NAME='config-defaults', CONFIG_SPIRE='config-spire',
                           CONFIG_LEADERELECTION_NAME='config-leader-election-controller')
        task = yaml.safe_dump(yaml.safe_load((ROOT/'.tekton/tasks/run-command.yaml').read_text()))
        self.wait(lambda: not self.kubectl('create', '--dry-run=server', '-f', '-', ok=False,
                                           input=task).returncode, hook)


    def start_chains(self, key, word):
        "Tekton Chains, from its own documents: it signs what builds push, with this key of cosign's."
        folder = module_folder('github.com/tektoncd/chains', pinned_version('chains'))
        self.install(documents(folder, 'config/100-*.yaml', 'config/config-*.yaml'))
        says = {'artifacts.taskrun.format': 'slsa/v2alpha4', 'artifacts.taskrun.storage': 'oci',
                'artifacts.oci.storage': 'oci', 'artifacts.pipelinerun.storage': '',
                'transparency.enabled': 'false'}
        self.kubectl('-n', 'tekton-chains', 'patch', 'configmap', 'chains-config', '--type=merge', '-p',
                     json.dumps(dict(data=says)))
        for name, text in {'cosign.key': Path(key).read_text(), 'cosign.password': word}.items():
            self.run('install', '-D', '-m', '600', '/dev/stdin', f'/etc/signing-secrets/{name}', input=text)
        self.start_knative('chains', 'chains-controller', 'tekton-chains:tekton-chains-controller',
                           (9463, 8963, 8863), METRICS_DOMAIN='tekton.dev/chains',
                           CONFIG_OBSERVABILITY_NAME='tekton-chains-config-observability',
                           CONFIG_LEADERELECTION_NAME='tekton-chains-config-leader-election')
        self.wait(lambda: 'Starting informers' in self.said('chains', 1000), 'chains')

    def start_policy(self, keys):
        "policy-controller, from its own documents, with the policies of deploy/ and their public keys."
        folder = module_folder('github.com/sigstore/policy-controller', pinned_version('policy'))
        self.install(documents(folder, 'config/[1-5]*.yaml', 'config/config-*.yaml'), {'webhook': 8443})
        for name, key in dict(image='edgecar.pub', gate='edgecar-gate.pub').items():
            self.kubectl('-n', 'cosign-system', 'create', 'secret', 'generic', f'edgecar-{name}-pub',
                         f'--from-file=cosign.pub={keys}/{key}')
        self.start_knative('policy', 'policy-webhook', 'cosign-system:webhook', (9464, 8964, 8864),
                           '-disable-tuf', METRICS_DOMAIN='sigstore.dev/policy', WEBHOOK_NAME='webhook')
        # the controller writes its rules into the webhook when it is ready
        self.wait(lambda: self.object('validatingwebhookconfiguration', 'policy.sigstore.dev')['webhooks'][0]
                  .get('rules'), 'policy')

    def start_argocd(self):
        "Argo CD's controller, repo-server and redis, in the namespace that deploy/argocd names."
        folder = module_folder('github.com/argoproj/argo-cd/v3', pinned_version('argocd'))
        apart = 'openshift-gitops'
        self.apply(dict(apiVersion='v1', kind='Namespace', metadata=dict(name=apart)))
        places = ('crds', 'cluster-rbac/application-controller', 'base/config',
                  'base/application-controller-roles')
        found = documents(folder, *(f'manifests/{place}/*.yaml' for place in places),
                          'manifests/base/repo-server/*sa.yaml')
        self.install([d for d in found if d['kind'] != 'Kustomization'], namespace=apart)
        (tools := self.folder/'argocd').mkdir()
        for name in ('git-verify-wrapper.sh', 'gpg-wrapper.sh'):
            shutil.copy(folder/f'hack/{name}', tools)
            (tools/name).chmod(0o755)
        (tools/'kustomize').symlink_to(self.kustomize)
        (tools/'redis-server').symlink_to(shutil.which('redis-check-rdb'))   # one program by two names
        self.start('redis', tools/'redis-server', '--bind', '127.0.0.1', '--save', '', '--dir', tools)
        self.wait(lambda: 'Ready to accept connections' in self.said('redis', 100), 'redis')
        env = dict(PATH=f'{tools}:{os.environ["PATH"]}', ARGOCD_GPG_ENABLED='false', HOME=str(tools),
                   ARGOCD_FAKE_IN_CLUSTER='true', KUBECONFIG=str(self.token(apart, 'argocd-repo-server')))
        self.start('argocd-repo-server', self.bin/'argocd', '--port=8091', '--disable-tls',
                   '--client-ca-path=', '--revision-cache-expiration=5s', '--redis=127.0.0.1:6379',
                   env=env | dict(ARGOCD_BINARY_NAME='argocd-repo-server'))
        config = self.token(apart, 'argocd-application-controller')
        self.start('argocd', self.bin/'argocd', '--repo-server=127.0.0.1:8091', '--repo-server-plaintext',
                   '--redis=127.0.0.1:6379', '--app-resync=10', '--app-resync-jitter=0',
                   '--self-heal-timeout-seconds=2', f'--kubeconfig={config}', f'--namespace={apart}',
                   env=env | dict(ARGOCD_BINARY_NAME='argocd-application-controller', KUBECONFIG=str(config)))
        self.wait(lambda: 'argo' in self.said('argocd', 100).lower(), 'argocd')


def run(folder, *words, **env):
    "Run a command of a club's member in a clone."
    done = subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True,
                          env=os.environ | env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def replace_in(file, *pairs):
    "Replace texts of a file, each of which must be there."
    text = file.read_text()
    for old, new in pairs:
        assert old in text, f'{file} lacks {old}'
        text = text.replace(old, new)
    file.write_text(text)


def fork(folder, tools, bases):
    "A club's clone: the repository as it is, with the club's own names in it, as the pages say to set them."
    run(folder.parent, 'git', 'clone', '-q', ROOT, folder)
    for name in ('.tekton', 'deploy'):   # with what is not committed yet
        shutil.rmtree(folder/name)
        shutil.copytree(ROOT/name, folder/name)
    name = 'registry.example.org/club/edgecar'
    replace_in(folder/'.tekton/release.yaml', (name, f'{HUB}/club/edgecar'),
               ('registry.access.redhat.com/ubi9/python-311:latest', tools),
               ('name: base_twin, value: ""', f'name: base_twin, value: "{bases["amd64"]}"'),
               ('name: base_car, value: ""', f'name: base_car, value: "{bases["arm64"]}"'),
               ('cpu: "2"', 'cpu: "1"'))   # a node of 2 cores has less to give
    for kind in ('twin', 'car'):
        replace_in(folder/f'deploy/overlays/{kind}/kustomization.yaml', (name, f'{HUB}/club/edgecar'))
        replace_in(folder/f'deploy/argocd/{kind}.yaml', ('https://git.example.org/club/edgecar.git', GIT))
    replace_in(folder/'deploy/argocd/twin.yaml', ('deploy/overlays/twin', 'deploy/overlays/twin-kubernetes'))
    replace_in(folder/'deploy/argocd/project.yaml', ('https://git.example.org/club/edgecar.git', GIT),
               ('destinations: [', f'destinations: [{{server: {HERE}, namespace: car}}, '))
    # two devices on one cluster: the car has a namespace of its own, and the one port of the node
    replace_in(folder/'deploy/argocd/car.yaml', ('namespace: edgecar}', 'namespace: car}'))
    replace_in(folder/'deploy/overlays/car/kustomization.yaml', ('namespace: edgecar', 'namespace: car'))
    replace_in(folder/'deploy/overlays/twin-kubernetes/kustomization.yaml',
               ('../../components/nodeport, ', ''))
    replace_in(folder/'deploy/policy/cluster-image-policy.yaml', (name, f'{HUB}/club/edgecar'))
    for who in ('user.name=club', 'user.email=club@localhost'):
        run(folder, 'git', 'config', *who.split('='))
    run(folder, 'git', 'commit', '-q', '-a', '-m', 'Name our registry, our image and our repository')
    run(folder, 'git', 'remote', 'set-url', 'origin', GIT)
    return folder


def moved(document, namespace):
    "A document of others, for another namespace than its own."
    if 'namespace' in document['metadata'] or document['kind'] in ('ServiceAccount', 'Role', 'RoleBinding',
                                                                   'ConfigMap', 'Secret', 'Service'):
        document['metadata']['namespace'] = namespace
    for subject in document.get('subjects', []):
        subject['namespace'] = namespace
    return document


def bases():
    "The bases of both images, made here: processor -> OCI layout."
    return {arch: build_base(arch, ROOT) for arch in ('amd64', 'arm64')}


class Club:
    "Who releases: a clone, keys, a namespace of the cluster with what .tekton/README.md asks for."
    def __init__(self, road, tools, bases):
        self.road, self.tools, self.bases = road, tools, bases
        self.folder, self.keys = road.folder/'club', road.folder/'keys'
        path = f'{Path(sys.prefix)/"bin"}:{os.environ["PATH"]}'
        self.env = os.environ | dict(PATH=path, SSL_CERT_FILE=f'{road.folder}/hub.crt',
                                     SIGSTORE_NO_CACHE='true')

    def set_up(self, cosign):
        "Make keys, secrets, volumes and accounts; push the clone and its pins."
        self.keys.mkdir()
        for name in ('edgecar', 'gate'):
            run(self.keys, cosign, 'generate-key-pair', f'--output-key-prefix={name}', COSIGN_PASSWORD='word')
        os.rename(self.keys/'gate.pub', self.keys/'edgecar-gate.pub')
        self.namespace()
        self.secrets()
        fork(self.folder, self.tools, self.bases)
        self.inside('git', 'push', '-q', 'origin', 'HEAD:main')
        self.hook()

    def inside(self, *words, **env):
        "Run a command in the clone and in the room, where the servers are."
        done = self.road.run('env', '-C', self.folder, *words, env=self.env | env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def namespace(self):
        "The namespace of the runs, as strict as that of the devices; who gets a tag may start runs there."
        labels = {'pod-security.kubernetes.io/enforce': 'restricted'}
        right = dict(apiGroups=['tekton.dev'], resources=['pipelineruns'], verbs=['create'])
        who = dict(kind='ServiceAccount', name='starter', namespace='club')
        self.road.apply(
            dict(apiVersion='v1', kind='Namespace', metadata=dict(name='club', labels=labels)),
            dict(apiVersion='v1', kind='ServiceAccount', metadata=dict(name='starter', namespace='club')),
            dict(apiVersion='rbac.authorization.k8s.io/v1', kind='Role', rules=[right],
                 metadata=dict(name='starter', namespace='club')),
            dict(apiVersion='rbac.authorization.k8s.io/v1', kind='RoleBinding', subjects=[who],
                 roleRef=dict(apiGroup='rbac.authorization.k8s.io', kind='Role', name='starter'),
                 metadata=dict(name='starter', namespace='club')))
        page = (ROOT/'.tekton/README.md').read_text()
        for line in re.findall(r'^    kubectl (.* serviceaccount edgecar-release.*)$', page, re.MULTILINE):
            self.road.kubectl('-n', 'club', *shlex.split(line))

    def secrets(self):
        "The secrets of a release, by the names that the page gives them."
        def secret(name, *words):
            self.road.kubectl('-n', 'club', 'create', 'secret', *words[:1], name, *words[1:])

        def literals(values):
            return [f'--from-literal={key}={value}' for key, value in values.items()]

        for name in ('.gitconfig', '.git-credentials'):
            (self.keys/name).touch()
        secret('edgecar-release-keys', 'generic', *[f'--from-file={self.keys}/{name}' for name in (
            'edgecar.pub', 'edgecar-gate.pub')], f'--from-file=gate.key={self.keys}/gate.key')
        secret('edgecar-release', 'generic', *literals(dict(COSIGN_GATE_PASSWORD='word', **TRUST)))
        secret('edgecar-git', 'generic', *[f'--from-file={self.keys}/{name}' for name in (
            '.gitconfig', '.git-credentials')])
        secret('edgecar-registry', 'docker-registry', f'--docker-server={HUB}', '--docker-username=club',
               '--docker-password=word')
        secret('edgecar-ci', 'generic', *literals(STORE | TRUST | dict(
            PIP_INDEX_URL=f'{INDEX}/simple', PIP_TRUSTED_HOST=NODE, PIP_NO_CACHE_DIR='1')))

    def volume(self, name):
        "A volume of the node, for one run."
        (path := self.road.folder/'volumes'/name).mkdir(parents=True)
        where = dict(key='kubernetes.io/hostname', operator='In', values=[NODE])
        term = dict(nodeSelectorTerms=[dict(matchExpressions=[where])])
        self.road.apply(dict(apiVersion='v1', kind='PersistentVolume', metadata=dict(name=name), spec=dict(
            capacity=dict(storage='10Gi'), accessModes=['ReadWriteOnce'], local=dict(path=str(path)),
            persistentVolumeReclaimPolicy='Retain', nodeAffinity=dict(required=term))))
        return path

    def hook(self):
        "A tag that is pushed starts what its own .tekton says."
        hook = self.road.folder/'git/edgecar.git/hooks/post-receive'
        config = self.road.token('club', 'starter')
        hook.write_text(HOOK.format(bin=self.road.bin, url=GIT, config=config))
        hook.chmod(0o755)

    def push_pins(self):
        "Bring what dvc.lock pins into the store."
        run(self.folder, Path(sys.prefix)/'bin/dvc', 'config', '--local', 'cache.dir', ROOT/'.dvc/cache')
        self.inside('edgecar', 'remote', **STORE)
        return self.inside('dvc', 'push', **STORE)

    def devices(self):
        "The namespace of the devices, their policies, and an Application for each, as deploy/README.md says."
        deploy = self.folder/'deploy'
        self.road.kubectl('apply', '-f', deploy/'base/namespace.yaml')
        self.road.kubectl('-n', 'edgecar', 'create', 'secret', 'generic', 'edgecar-page',
                          f'--from-literal=token={"5eed" * 8}')
        self.road.kubectl('apply', '-f', deploy/'policy/cluster-image-policy.yaml')
        for name in ('project', 'twin', 'car'):
            self.road.kubectl('apply', '-f', deploy/f'argocd/{name}.yaml')

    def application(self, name):
        "The status of an Application."
        return self.road.object('-n', 'openshift-gitops', 'application', f'edgecar-{name}').get('status', {})

    def tag(self, version):
        "Push a tag: what the hook says."
        run(self.folder, 'git', 'tag', version)
        done = self.road.run('git', '-C', self.folder, 'push', 'origin', version)
        assert done.returncode == 0, done.stderr
        return done.stderr
