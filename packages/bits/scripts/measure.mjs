/**
 * Measures the built package: `node packages/bits/scripts/measure.mjs` after a build.
 * Prints the minimum over rounds, in one process per call of this script.
 */
import { addr, decode, defineLayout, encode, flag, maskOf, uint } from '../dist/index.js';

const fields = () => ({
  P: flag(0, 'present'),
  FPD: flag(1, 'fault processing disable'),
  AW: uint(4, 2, 'address width'),
  PGTT: uint(8, 6, 'translation type'),
  SSADE: flag(9, 'access/dirty enable'),
  SSPTPTR: addr(63, 12, 'table'),
  DID: uint(79, 64, 'domain'),
  PWSNP: flag(87, 'snoop'),
  PGSNP: flag(88, 'snoop'),
  PAT: uint(127, 96, 'attributes'),
  SRE: flag(128, 'supervisor'),
  FSPTPTR: addr(191, 140, 'table'),
});

function declareAll() {
  const layouts = [];
  for (let i = 0; i < 150; i++)
    layouts.push(defineLayout({ name: `L${i}`, bits: 512, spec: 'none', fields: fields() }));
  return layouts;
}

function timeNs(run) {
  const start = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - start);
}

const cold = timeNs(declareAll);
const [layout] = declareAll();
const words = encode(layout, { P: 1, SSPTPTR: 0x12345000, DID: 7, FSPTPTR: 0x30000 });
const values = decode(layout, words);

/** Minimum over 15 rounds of the mean of `calls` calls, in microseconds. */
function perCall(calls, run) {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 15; round++)
    best = Math.min(best, timeNs(() => loop(calls, run)) / calls);
  return (best / 1000).toFixed(2);
}

function loop(calls, run) {
  for (let i = 0; i < calls; i++) run();
}

console.log(`Node ${process.versions.node}`);
console.log(`declare 150 layouts x 12 fields, first time: ${(cold / 1e6).toFixed(1)} ms`);
console.log(`declare 150 layouts x 12 fields, warm: ${perCall(5, declareAll)} us`);
console.log(`decode, 12 fields of 512 bits: ${perCall(20_000, () => decode(layout, words))} us`);
console.log(`encode, 12 fields of 512 bits: ${perCall(20_000, () => encode(layout, values))} us`);
console.log(`maskOf, 3 fields: ${perCall(20_000, () => maskOf(layout, 'P', 'AW', 'DID'))} us`);
