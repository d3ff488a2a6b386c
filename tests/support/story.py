"What happened on the road of a release, and when, by those who did it: `scripts/strip` draws it."
from datetime import datetime


def at(text):
    "A time of an API server, in s."
    return datetime.fromisoformat(text).timestamp()


def moment(who, what, begin, end=None):
    return dict(who=who, what=what, begin=begin, end=begin if end is None else end)


def of_tasks(tasks):
    "Moments of a run, by its TaskRuns: name -> document."
    return [moment('pipeline', name, at(task['status']['startTime']), at(task['status']['completionTime']))
            for name, task in tasks.items()]


def of_signatures(registry, digests):
    "When signatures came into a registry, by the folder that it keeps; `digests` are target -> digest."
    for target, digest in digests.items():
        tag = f'**/edgecar-{target}/_manifests/tags/{digest.replace(":", "-")}.sig/current/link'
        yield moment('Chains', f'{target} signed', next(registry.glob(tag)).stat().st_mtime)


def of_commits(log):
    "Moments of commits, by lines of `git log --format='%ct %s'`."
    return [moment('git', what, int(seconds)) for seconds, what in (line.split(' ', 1)
                                                                    for line in log.splitlines())]


def of_sync(who, state):
    "Moments of an Application, by the state of its last operation."
    return [moment(who, 'sync', at(state['startedAt']), at(state['finishedAt']))]


def of_job(who, status):
    return [moment(who, 'drives', at(status['startTime']), at(status['completionTime']))]


def since(moments, zero):
    "Moments in the order in which they began, in s since one of them."
    told = [m | dict(begin=round(m['begin'] - zero, 1), end=round(m['end'] - zero, 1)) for m in moments]
    return sorted(told, key=lambda m: (m['begin'], m['end']))
