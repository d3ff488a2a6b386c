"""How well a pilot that never saw a place steers there, on tubs of real cars.

    .venv/bin/python benchmarks/domain_gap.py     # the tubs below EDGECAR_MIRROR, or --tubs FOLDER

Three pilots for each place: today's, which saw no frame of it (zero-shot); today's, taught on with the
place's first 30 s beside the starter (few-shot); small nets that learned from the place alone, fold by fold
(in-domain). All are scored on what comes after the first 30 s, which fit one gain, one offset and one lag of
today's steering. `answers_shift`: the share of the frames that today's pilot answers towards the road's
middle when it stands or looks further to a side. What was trained stays in .cache/domain_gap.

Where even in-domain nets find nothing, a place counts in the mean, and not among those to beat.
"""
import argparse
import hashlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np

from support import ROOT, parameters, settings, small_tub, split_of

from edgecar.console import format_table
from edgecar.core import EdgecarError, atomic_write, progress_bar
from edgecar.data.frames import load_recording
from edgecar.data.split import Split
from edgecar.data.tub import find_tubs_in
from edgecar.pilot import places
from edgecar.pilot.runtime import Pilot
from edgecar.sim.camera import Lens

KEPT, PILOT, NET = ROOT/'.cache/domain_gap', ROOT/'build/export/pilot.tflite', ROOT/'build/train/pilot.h5'

# by eye, from where the floor ends; how high a lens is only scales the shift
LENSES = {
    'epoxy-thin-lines': Lens(fov_deg=125, pitch_deg=-10, above_m=.12),
    'hall-road-mat': Lens(fov_deg=95, pitch_deg=-17, above_m=.2),
    'office-two-lines': Lens(fov_deg=120, pitch_deg=-16, above_m=.15),
    'outdoor-red-road': Lens(fov_deg=62, pitch_deg=-6, above_m=.3),
    'terrazzo-tape': Lens(fov_deg=150, pitch_deg=-6, above_m=.12),
    'workshop-tape': Lens(fov_deg=125, pitch_deg=-10, above_m=.12),
}


def taught(rec, split, cfg):
    "Return the pilot of one training, made once."
    words = json.dumps([asdict(cfg), rec.key, [p.tolist() for p in (split.train, split.val)],
                        hashlib.sha256(Path(cfg.transfer).read_bytes()).hexdigest()
                        if cfg.transfer != 'none' else ''], sort_keys=True)
    path = KEPT/f'{hashlib.sha256(words.encode()).hexdigest()[:16]}.tflite'
    if not path.is_file():
        from edgecar.pilot.export import convert_to_tflite
        from edgecar.pilot.train import train
        net, kind, _ = train(rec, split, cfg, bar=False)
        with atomic_write(path) as f:
            f.write(convert_to_tflite(kind.whole(net)))
    return Pilot(path)


def in_domain(place, params):
    "Return the steering of nets that learned from other parts of the place."
    cfg = settings(small_tub(params))
    return places.fold_answers(place, lambda rec, split: taught(rec, split, cfg))


def few_shot(place, tub, starter, params):
    "Return the steering of today's pilot, taught on with the place's first 30 s beside the starter."
    rec, both = load_recording(starter, bar=False), load_recording([*starter, tub], bar=False)
    parts, first = split_of(rec, params), len(rec) + np.arange(place.calibrates)
    last = place.calibrates//6   # picks the checkpoint, beside the starter's
    split = Split(np.concatenate([parts.train, first[:-last - 10]]),
                  np.concatenate([parts.val, first[-last:]]), parts.test)
    cfg = replace(settings(parameters('joint')), rounds=0, epochs=6, epoch_frames=8000, lr=.001,
                  transfer=str(NET))
    return places.answers_of(taught(both, split, cfg), place)


def main(folder, pilot_file):
    params, starter = parameters(), find_tubs_in([ROOT/'data'])
    found = places.find_places(folder)
    for file in (pilot_file, NET):
        if not file.is_file():
            raise EdgecarError('is not there', file, '`make repro` makes it')
    pilot = Pilot(pilot_file)
    zero, few, own, shifted = {}, {}, {}, {}
    for name, tub in progress_bar(found.items(), 'places', unit='place'):
        place = places.open_place(name, tub, pilot.size, bar=False)
        zero[name] = places.score_answers(place, places.answers_of(pilot, place))
        lens = LENSES.get(name, Lens())
        shifted[name] = places.share_answered(places.shift_answers(place, pilot, lens))
        own[name] = places.score_answers(place, in_domain(place, params), calibrate=False)
        few[name] = places.score_answers(place, few_shot(place, tub, starter, params))
        print(name, {k: round(x[name]['correlation']['value'], 2) for k, x in
                     dict(zero=zero, few=few, own=own).items()}, round(shifted[name]['value'], 2),
              file=sys.stderr, flush=True)
    tell(zero, few, own, shifted)


def tell(zero, few, own, shifted):
    "Print the table, and the summary as the last line."
    heads = [f'{what} {of}' for of in ('zero', 'few', 'in domain') for what in ('correlation', 'ratio')]
    print(format_table(places.place_rows(zero=zero, few=few, own=own), head=['place', *heads]))
    print(format_table([[name, *(f'{x[k]:.2f}' for k in ('value', 'low', 'high')), *(
        f'{share:.2f}' for share in x['by_move'].values())] for name, x in shifted.items()],
        head=['answered', 'share', 'low', 'high', *places.MOVES]))
    beaten, able = places.beaten_ceilings(zero, own)
    print(json.dumps(dict(
        correlation=round(places.mean_correlation(zero), 3),
        correlation_few=round(places.mean_correlation(few), 3),
        correlation_in_domain=round(places.mean_correlation(own), 3),
        beats_in_domain=len(beaten), places_to_beat=len(able),
        answers_shift=round(places.second_lowest({k: x['value'] for k, x in shifted.items()}), 3),
        places={name: dict(zero_shot=zero[name], few_shot=few[name], in_domain=own[name],
                           answers_shift=shifted[name], beaten=name in beaten) for name in zero}),
        default=float))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--tubs', type=Path, help='folder with tubs, or archives of tubs, of real cars')
    ask.add_argument('--pilot', type=Path, default=PILOT, help='.tflite that is scored')
    args = ask.parse_args()
    main(args.tubs, args.pilot)
