// Selections: one byte a record, 1 where it is selected; and the same as ranges, both ends included.

// Return the ranges of a mask.
export function rangesOf(mask) {
  const ranges = []
  let begin = mask.indexOf(1)
  while (begin >= 0) {
    const end = mask.indexOf(0, begin)
    ranges.push([begin, (end < 0 ? mask.length : end) - 1])
    begin = end < 0 ? -1 : mask.indexOf(1, end)
  }
  return ranges
}

// Count what is selected.
export function countOf(mask) {
  let count = 0
  for (let i = 0; i < mask.length; i++) count += mask[i]
  return count
}

// Return the place where the next (step 1) or the last (step -1) range begins; null when there is no other.
export function nextRange(ranges, at, step) {
  const starts = ranges.map(([begin]) => begin)
  if (step > 0) return starts.find(begin => begin > at) ?? null
  return starts.filter(begin => begin < at).at(-1) ?? null
}

// Write ranges for a person, a few of them.
export function describeRanges(ranges, most = 3) {
  const words = ranges.slice(0, most).map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`))
  return words.join(', ') + (ranges.length > most ? ` and ${ranges.length - most} more` : '')
}
