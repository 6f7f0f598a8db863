import { encode } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { CFGI, CFGI_RANGE, COMMAND } from '../../src/spec/index.ts';
import { createRig, type Rig } from './rig.ts';

const SID = 0x17;
const SSID = 0x41;
const OTHER_SSID = 0x42;
const PFN = 0x1_2345;

/** Bypass by S1DSS for requests without SubstreamID, CDs of two levels for the others. */
const IMAGE = {
  '0x1005c0': String(1n + (5n << 1n) + (1n << 4n) + 0x6_0000n + (8n << 59n)),
  '0x1005c8': '0x1',
  '0x60008': '0x70001',
  '0x70040': '0x1e205c0003519',
  '0x70048': '0x30000',
  '0x70080': '0x1e205c0003519',
  '0x70088': '0x30000',
  '0x30000': '0x31003',
  '0x31488': '0x32003',
  '0x32a28': '0x9f43',
} as const;

const build = (): Rig => {
  const rig = createRig();
  rig.store(IMAGE);
  return rig;
};
const read = (rig: Rig, ssid = SSID, sid = SID) => rig.unit.translatePage(sid, ssid, PFN, 1);
const cfgi = (OPCODE: number, values: object = {}) => encode(CFGI, { OPCODE, SID, ...values });
const range = (sid: number, RANGE: number) =>
  encode(CFGI_RANGE, { OPCODE: COMMAND.CFGI_STE_RANGE, SID: sid, RANGE });

const { CFGI_STE, CFGI_CD, CFGI_CD_ALL, TLBI_NSNH_ALL, PREFETCH_CONFIG, PREFETCH_ADDR } = COMMAND;

const COMMANDS: readonly (readonly [string, Uint32Array, boolean, boolean])[] = [
  ['CFGI_STE, Leaf=1', cfgi(CFGI_STE, { LEAF: 1 }), true, true],
  ['CFGI_STE, Leaf=0', cfgi(CFGI_STE), true, true],
  ['CFGI_STE of another stream', cfgi(CFGI_STE, { SID: SID + 1 }), false, false],
  ['CFGI_STE_RANGE of 8 streams', range(0x10, 2), true, true],
  ['CFGI_STE_RANGE of the next 8', range(0x18, 2), false, false],
  ['CFGI_ALL', range(0, 31), true, true],
  ['CFGI_CD', cfgi(CFGI_CD, { SSID, LEAF: 1 }), false, true],
  ['CFGI_CD of another substream', cfgi(CFGI_CD, { SSID: OTHER_SSID }), false, false],
  ['CFGI_CD of another stream', cfgi(CFGI_CD, { SSID, SID: SID + 1 }), false, false],
  ['CFGI_CD_ALL', cfgi(CFGI_CD_ALL), false, true],
  ['CFGI_CD_ALL of another stream', cfgi(CFGI_CD_ALL, { SID: SID + 1 }), false, false],
  ['TLBI_NSNH_ALL', Uint32Array.of(TLBI_NSNH_ALL, 0, 0, 0), false, false],
  [
    'PREFETCH_CONFIG',
    Uint32Array.of(PREFETCH_CONFIG | 0x800 | (SSID << 12), SID, 0, 0),
    false,
    false,
  ],
  ['PREFETCH_ADDR', Uint32Array.of(PREFETCH_ADDR | 0x800 | (SSID << 12), SID, 3, 0), false, false],
];

describe('SMMUv3 4.3, 4.2: which configuration each command reaches', () => {
  test.each(COMMANDS)('%s', (_, command, reachesSte, reachesCd) => {
    const stream = build();
    read(stream);
    expect(stream.events()).toEqual([]);
    stream.store({ '0x1005c0': '0x1' });
    stream.run(command);
    expect(read(stream, -1) < 0).toBe(reachesSte);
    const context = build();
    read(context);
    context.store({ '0x70040': '0x0' });
    context.run(command);
    expect(read(context) < 0).toBe(reachesCd);
    expect([stream.commandError(), context.commandError()]).toEqual([0, 0]);
    expect(read(context, OTHER_SSID)).toBeGreaterThanOrEqual(0);
  });

  test.each([
    ['PREFETCH_CONFIG', PREFETCH_CONFIG],
    ['PREFETCH_ADDR', PREFETCH_ADDR],
  ])('%s of a stream that there cannot be: no effect, no event', (_, opcode) => {
    const rig = build();
    rig.run(Uint32Array.of(opcode, 0x8000_0000, 0, 0));
    expect([rig.commandError(), rig.events()]).toEqual([0, []]);
    expect(rig.unit.readReg32(0x9c)).toBe(1);
  });
});
