import { make } from './draw.js'
import { makeTable } from './tables.js'

const shortly = value => (value === null ? '' : `${+value.toPrecision(3)}`)

// What became of each car on the road.
export function raceTable(names, numbers) {
  const rows = numbers.map((run, i) => {
    const back = run.off_track + run.hit + run.stuck
    const lap = run.lap_s ? run.lap_s.toFixed(2) : '–'
    return [names[i], `${run.laps}`, lap, [`${back}`, back ? 'bad' : ''], run.cte_p95_m.toFixed(3),
      run.speed_mps.toFixed(2)]
  })
  return makeTable('this drive', ['', 'laps', 's a lap', 'carried back', 'p95 of |cte|, m', 'm/s'], rows)
}

// The gate's rules, with what each pilot made of them.
export function gateTable({ columns, rows }) {
  if (!rows.length) return make('p', { className: 'soft', textContent: 'E holds them against the gate.' })
  const body = rows.map(({ rule, bound, found, kept }) =>
    [rule, bound, ...found.map((value, i) => [shortly(value), kept[i] === false ? 'bad broken' : ''])])
  return makeTable('the gate', ['rule', 'bound', ...columns], body)
}
