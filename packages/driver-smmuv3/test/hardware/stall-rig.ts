/**
 * A machine with devices behind a unit that stalls: stage 1 of 39 bits, one page of each table, and
 * an interrupt handler to put in.
 */
import { encode } from '@iommukit/bits';
import { createMachine, type Endpoint } from '@iommukit/core';
import type { SmmuCapabilities } from '../../src/hardware/capabilities.ts';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import { CD, CFGI, COMMAND, RESUME, STE, SYNC, TLBI } from '../../src/spec/index.ts';

export const PAGE = 4096;
/** The devices' StreamIDs. */
export const SID = 0x20;
export const OTHER_SID = 0x28;
/** An IOVA whose leaf {@link StallRig.map} writes. */
export const IOVA = 0x20_0000;

const QUEUE_LG2 = 3;
const INDEX = 2 ** (QUEUE_LG2 + 1) - 1;
const SLOT = 2 ** QUEUE_LG2 - 1;
const LEAF = 0x743;
const DEFAULT = {
  idr0: { STALL_MODEL: 0, TERM_MODEL: 0 },
  idr5: { STALL_MAX: 2 },
} as const;

/** Make one. */
export const createStallRig = (capabilities: SmmuCapabilities = DEFAULT) => {
  const machine = createMachine({ ramBytes: 256 * PAGE });
  const { memory } = machine;
  const device = machine.addEndpoint({ rid: SID });
  const other = machine.addEndpoint({ rid: OTHER_SID });
  const unit = new SmmuHardware({ memory, capabilities, bus: machine });
  device.agent = unit;
  other.agent = unit;
  const page = () => memory.allocPages(1);
  const [streams, cd, root, middle, leaves, commands, events] = Array.from({ length: 7 }, page) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const frame = memory.allocPages(16) / PAGE;
  const put = (pa: number, words: ArrayLike<number>) => {
    for (let at = 0; at < words.length; at++) memory.write32(pa + at * 4, words[at] as number);
  };
  const setStream = (sid: number, values: object = {}) =>
    put(streams + sid * 64, encode(STE, { V: 1, CONFIG: 5, S1CONTEXTPTR: cd, ...values } as never));
  const setContext = (values: object = {}) =>
    put(
      cd,
      encode(CD, { V: 1, T0SZ: 25, EPD1: 1, IPS: 5, AA64: 1, S: 1, A: 1, TTB0: root, ...values }),
    );
  /** Map a page of the 2 MiB at {@link IOVA}: read-write, or as the bits say. */
  const map = (index: number, target: number, bits = LEAF) =>
    memory.write64(
      leaves + index * 8,
      ((target % 2 ** 20) * PAGE) | bits,
      Math.floor(target / 2 ** 20),
    );
  const table = (at: number, to: number) =>
    memory.write64(at, (to | 3) >>> 0, Math.floor(to / 2 ** 32));
  table(root, middle);
  table(middle + (IOVA / 2 ** 21) * 8, leaves);
  setStream(SID);
  setStream(OTHER_SID);
  setContext();

  const run = (...list: ArrayLike<number>[]) => {
    for (const words of list) {
      const prod = unit.readReg32(0x98) & INDEX;
      put(commands + (prod & SLOT) * 16, words);
      unit.writeReg32(0x98, (prod + 1) & INDEX);
    }
  };
  /** Consume the oldest record; undefined when there is none. */
  const takeEvent = (): Uint32Array | undefined => {
    const cons = unit.readReg32(0x100ac) & INDEX;
    if (cons === (unit.readReg32(0x100a8) & INDEX)) return undefined;
    const words = Uint32Array.from({ length: 8 }, (_, at) =>
      memory.read32(events + (cons & SLOT) * 32 + at * 4),
    );
    unit.writeReg32(0x100ac, ((cons + 1) & INDEX) | (unit.readReg32(0x100a8) & 0x8000_0000));
    return words;
  };
  let onEvent: () => void = () => undefined;
  const message = machine.allocMessageAddress(() => onEvent());

  const program = (cr0 = 0xd) => {
    unit.writeReg64(0x80, streams % 2 ** 32, Math.floor(streams / 2 ** 32));
    unit.writeReg32(0x88, 6);
    unit.writeReg64(0x90, (commands % 2 ** 32) | QUEUE_LG2, Math.floor(commands / 2 ** 32));
    unit.writeReg64(0xa0, (events % 2 ** 32) | QUEUE_LG2, Math.floor(events / 2 ** 32));
    unit.writeReg64(0xb0, message, 0);
    unit.writeReg32(0x50, 4);
    unit.writeReg32(0x20, cr0);
  };
  program();
  return {
    machine,
    unit,
    device,
    other,
    frame,
    events,
    setStream,
    setContext,
    map,
    run,
    takeEvent,
    /** What the interrupt of the event queue does. */
    handle: (handler: () => void) => {
      onEvent = handler;
    },
    resume: (stag: number, ac: number, ab = 0, sid = SID) =>
      run(encode(RESUME, { OPCODE: COMMAND.RESUME, SID: sid, AC: ac, AB: ab, STAG: stag })),
    terminate: (sid: number) => run(encode(RESUME, { OPCODE: COMMAND.STALL_TERM, SID: sid })),
    sync: () => run(encode(SYNC, { OPCODE: COMMAND.SYNC })),
    forget: () =>
      run(
        encode(CFGI, { OPCODE: COMMAND.CFGI_STE_RANGE, SID: 0, LEAF: 1 }).map((word, at) =>
          at === 2 ? 31 : word,
        ),
        encode(TLBI, { OPCODE: COMMAND.TLBI_NSNH_ALL }),
      ),
    byteAt: (index: number, offset = 0) =>
      memory.view((frame + index) * PAGE + offset, 1)?.[0] as number,
  };
};

/** A rig as {@link createStallRig} makes it. */
export type StallRig = ReturnType<typeof createStallRig>;

/** STAG and Stall of a record. */
export const stallOf = (words: Uint32Array | undefined) =>
  words && { stag: (words[2] as number) & 0xffff, stalled: (words[2] as number) >>> 31 === 1 };

/** Write one byte by a DMA that may wait. */
export const startByte = (device: Endpoint, iova: number, value: number) =>
  device.startWrite(iova, Uint8Array.of(value));
