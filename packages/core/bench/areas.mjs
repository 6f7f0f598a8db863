// Areas without a domain: the index of an I/O page table at three sizes, and automatic IOVAs.
//
//   node areas.mjs SIZE ROUNDS     prints one JSON line per measurement

import { minimum, print, shuffled } from '../../../scripts/lib/measure.mjs';
import { createMachine, createProcess, IOPT_PROT, IoPagetable, PinContext } from '../dist/index.js';

const PAGE = 4096;
/** Changes per round; small beside the table, so that its size stays what it is said to be. */
const BATCH = 500;
/** Every n-th hole is wide enough for an automatic IOVA of two pages, all others are not. */
const WIDE_EVERY = 512;
const AUTO_BATCH = 100;
const PROT = IOPT_PROT.READ | IOPT_PROT.WRITE;

const [size, rounds] = process.argv.slice(2).map(Number);
const machine = createMachine();
const owner = createProcess(machine, { uid: 1000 });
const userVa = owner.mmap({ length: 2 * PAGE });

const newTable = () => new IoPagetable(new PinContext(machine.memory));
const mapAt = (iopt, pfn) =>
  iopt.mapUser({ process: owner, userVa, length: PAGE, prot: PROT, iova: pfn * PAGE });

/** `size` one-page areas with a one-page hole behind each, mapped in random order. */
function fragmented() {
  const iopt = newTable();
  for (const i of shuffled(size)) mapAt(iopt, 16 + 2 * i);
  return iopt;
}

function find(iopt) {
  const { areas } = iopt;
  const order = shuffled(size).subarray(0, 20_000);
  return minimum(rounds, order.length, () => {
    for (const i of order) if (areas.find(16 + 2 * i, 7) < 0) throw new Error('an area is missing');
  });
}

/** The index alone: an area into a hole and out again. */
function index(iopt, holes) {
  const { areas } = iopt;
  areas.find(16, 0);
  const pages = areas.pages(areas.tree.id);
  const insert = () => {
    for (const pfn of holes) areas.add(pfn, 0, pfn, PAGE - 1, pages, 0, 0, PROT);
  };
  const remove = () => {
    for (const pfn of holes) {
      areas.find(pfn, 0);
      areas.removeAtCursor();
    }
  };
  return [
    minimum(rounds, holes.length, insert, undefined, remove),
    minimum(rounds, holes.length, remove, insert),
  ];
}

/** The same with everything a map call does: checks, pages object, undo on refusal. */
function calls(iopt, holes) {
  const map = () => {
    for (const pfn of holes) mapAt(iopt, pfn);
  };
  const unmap = () => {
    for (const pfn of holes) {
      if (iopt.unmap(pfn * PAGE, PAGE) !== PAGE) throw new Error('nothing was unmapped');
    }
  };
  return [
    minimum(rounds, holes.length, map, undefined, unmap),
    minimum(rounds, holes.length, unmap, map),
  ];
}

/** Holes of one page, but for one in 512, which has three; and the address behind the last area. */
function nearlyFull() {
  const iopt = newTable();
  let pfn = 1; // page 0 is never chosen
  const places = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    places[i] = pfn;
    pfn += i % WIDE_EVERY === WIDE_EVERY - 1 ? 4 : 2;
  }
  for (const i of shuffled(size)) mapAt(iopt, places[i]);
  return { iopt, end: pfn * PAGE };
}

/**
 * Two pages at an automatic IOVA, as a whole map call, the area's insertion with it; the unmap of
 * what was chosen, which makes the hole known again; then the same map calls with those IOVAs
 * named, so that the difference is the choice.
 *
 * @param batch wide holes that a round fills, from the first on
 */
function automatic({ iopt, end }, batch) {
  const chosen = new Float64Array(batch);
  const allocate = () => {
    for (let i = 0; i < batch; i++)
      chosen[i] = iopt.mapUser({ process: owner, userVa, length: 2 * PAGE, prot: PROT });
  };
  const giveBack = () => {
    for (const iova of chosen) {
      if (iova >= end) throw new Error('an IOVA behind the last area: the holes were not used');
      iopt.unmap(iova, 2 * PAGE);
    }
  };
  const named = () => {
    for (const iova of chosen)
      iopt.mapUser({ process: owner, userVa, length: 2 * PAGE, prot: PROT, iova });
  };
  return [
    minimum(rounds, batch, allocate, undefined, giveBack),
    minimum(rounds, batch, giveBack, allocate),
    minimum(rounds, batch, named, undefined, giveBack),
  ];
}

const iopt = fragmented();
const holes = Float64Array.from(shuffled(size).subarray(0, BATCH), (i) => 17 + 2 * i);
print({ op: 'find', areas: size, ns: find(iopt) });
const [insert, remove] = index(iopt, holes);
print({ op: 'insert', areas: size, ns: insert });
print({ op: 'remove', areas: size, ns: remove });
const [map, unmap] = calls(iopt, holes);
print({ op: 'mapUser', areas: size, ns: map });
print({ op: 'unmap', areas: size, ns: unmap });
if (size >= 100_000) {
  const target = size === 1_000_000 ? 1000 : undefined;
  const table = nearlyFull();
  const [chosen, returned, named] = automatic(table, AUTO_BATCH);
  print({ op: 'automatic-iova', areas: size, ns: chosen, target });
  print({ op: 'automatic-unmap', areas: size, ns: returned });
  print({ op: 'same-iova-named', areas: size, ns: named });
  const [all] = automatic(table, Math.floor(size / WIDE_EVERY));
  print({ op: 'automatic-iova-all', areas: size, ns: all });
}
