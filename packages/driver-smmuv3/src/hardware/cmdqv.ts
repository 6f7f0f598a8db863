/**
 * Tegra241's CMDQV as a device: interfaces for guests, and their command queues. What is in a page
 * that a guest maps is looked at whenever a device sends something, and by {@link Cmdqv.poll}.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c
 */
import { decode, encode } from '@iommukit/bits';
import {
  CMDQ_ALLOC,
  CMDQV,
  CMDQV_PARAM,
  SID_MATCH,
  VCMDQ,
  VCMDQ_BASE,
  VINTF,
  VINTF_CONFIG,
} from '../spec/cmdqv.ts';
import { COMMAND_BYTES } from '../spec/commands.ts';
import { CMDQ_CONS, CMDQ_ERR } from '../spec/registers.ts';
import { type GuestQueueTargets, runGuestCommand } from './cmdqv-commands.ts';
import type { CommandWatcher } from './command-queue.ts';
import { readDwords, writeDwords } from './memory.ts';

/** Numbers of interfaces, queues and StreamIDs, lg2. */
export interface CmdqvGeometry {
  /** Interfaces, at most 6; one of them is the host's. Default 2. */
  readonly vintfLg2?: number;
  /** Queues of all interfaces, at most 7; default 4. */
  readonly vcmdqLg2?: number;
  /** StreamIDs an interface can name, at most 4; default 4. */
  readonly sidLg2?: number;
}

/** Dwords of a queue on page 0. */
const QUEUE_WORDS = 6;
const [CONS, PROD, CONFIG, STATUS, GERROR, GERRORN] = [0, 1, 2, 3, 4, 5];
const ENABLED = 1;
const CMDQ_ERROR = 1;
const MAX_QUEUE_LG2 = 19;
const INDEX_MASK = 0xf_ffff;
const { ERR } = CMDQ_CONS.fields;

interface Place {
  readonly vintf: number;
  readonly lvcmdq: number;
}

/** The CMDQV of one unit. */
export class Cmdqv {
  /** Told when an interface has an error that is not masked. */
  onInterrupt: () => void = () => {};
  readonly vintfs: number;
  readonly vcmdqs: number;
  readonly sidsPerVintf: number;
  readonly #on: GuestQueueTargets;
  readonly #param: number;
  readonly #registers = new Map<number, number>();
  readonly #words = new Int32Array(QUEUE_WORDS);
  /** Queue numbers that belong to an interface. */
  readonly #allocated = new Map<number, Place>();
  #busy = false;

  /** @throws {RangeError} for numbers that the registers have no room for */
  constructor(targets: GuestQueueTargets, geometry: CmdqvGeometry) {
    const { vintfLg2 = 2, vcmdqLg2 = 4, sidLg2 = 4 } = geometry;
    if (vintfLg2 > 6 || vcmdqLg2 > 7 || sidLg2 > 4 || vintfLg2 > vcmdqLg2) {
      throw new RangeError('a CMDQV has at most 2^6 VINTFs, 2^7 VCMDQs (not fewer), 2^4 StreamIDs');
    }
    this.#on = targets;
    this.vintfs = 2 ** vintfLg2;
    this.vcmdqs = 2 ** vcmdqLg2;
    this.sidsPerVintf = 2 ** sidLg2;
    const sizes = { VCMDQ_LOG2: vcmdqLg2, VINTF_LOG2: vintfLg2, SID_PER_VM_LOG2: sidLg2 };
    [this.#param = 0] = encode(CMDQV_PARAM, { VER: 1, ...sizes });
    this.reset();
  }

  /** Who hears of every command, if somebody does. */
  set watcher(watcher: CommandWatcher | undefined) {
    this.#on.watcher = watcher;
  }

  /** Power-on state: no interface is on, no queue belongs to anybody. */
  reset(): void {
    this.#registers.clear();
    this.#allocated.clear();
    this.#registers.set(CMDQV.PARAM, this.#param);
  }

  /** Read a dword; 0 where there is no register. */
  readReg32(offset: number): number {
    const queue = this.#queueRegister(offset);
    if (queue) return this.#page0(queue.place, queue.word);
    if (offset === CMDQV.STATUS) return this.readReg32(CMDQV.CONFIG) & ENABLED;
    if (isIn(offset, CMDQV.VINTF_ERR_MAP, 2)) return this.#vintfErrors(offset);
    if (isIn(offset, CMDQV.CMDQ_ERR_MAP, 4)) return this.#queueErrors(offset);
    const own = this.#vintfRegister(offset);
    if (own?.register === VINTF.STATUS) return this.#vintfConfig(own.vintf) & ENABLED;
    if (own && isIn(own.register, VINTF.LVCMDQ_ERR_MAP, 4)) {
      return this.#ownErrors(own.vintf, (own.register - VINTF.LVCMDQ_ERR_MAP) / 4);
    }
    return this.#registers.get(offset) ?? 0;
  }

  /** Write a dword; what that starts has finished when this returns. */
  writeReg32(offset: number, value: number): void {
    const queue = this.#queueRegister(offset);
    if (queue) {
      if (queue.word !== STATUS && queue.word !== GERROR) {
        this.#setPage0(queue.place, queue.word, value >>> 0);
      }
    } else if (!isReadOnly(offset)) {
      this.#registers.set(offset, value >>> 0);
      if (isIn(offset, CMDQV.CMDQ_ALLOC, this.vcmdqs)) this.#allocate(offset, value);
    }
    this.poll();
  }

  /** Do what has been asked for since the last look. */
  poll(): void {
    if (this.#busy || this.readReg32(CMDQV.STATUS) === 0) return;
    this.#busy = true;
    try {
      for (const [queue, place] of this.#allocated) {
        if (this.#vintfConfig(place.vintf) & ENABLED) this.#run(queue, place);
      }
    } finally {
      this.#busy = false;
    }
  }

  #run(queue: number, place: Place): void {
    const enabled = this.#page0(place, CONFIG as number) & ENABLED;
    this.#setPage0(place, STATUS as number, enabled);
    if (enabled === 0) return;
    const base = this.#base(queue);
    const mask = 2 ** (base.LOG2SIZE + 1) - 1;
    for (;;) {
      const consumer = this.#page0(place, CONS as number);
      const used = (this.#page0(place, PROD as number) - consumer) & mask;
      // More than the queue holds is no state that a driver gets into.
      if (used === 0 || used > 2 ** base.LOG2SIZE || this.#hasError(place)) return;
      const at = base.ADDR + (consumer & (2 ** base.LOG2SIZE - 1)) * COMMAND_BYTES;
      const error = this.#execute(at, place.vintf);
      if (error === CMDQ_ERR.NONE) {
        const next = ((consumer & INDEX_MASK) + 1) & mask;
        this.#setPage0(place, CONS as number, next);
      } else this.#stop(place, consumer, error);
    }
  }

  /** The consumer index stays at the failing command; ERR is set before GERROR toggles. */
  #stop(place: Place, consumer: number, error: number): void {
    const stopped = ((consumer & INDEX_MASK) | (error << ERR.shift)) >>> 0;
    this.#setPage0(place, CONS as number, stopped);
    const gerror = this.#page0(place, GERROR as number);
    this.#setPage0(place, GERROR as number, (gerror ^ CMDQ_ERROR) >>> 0);
    const [map, bit] = [CMDQV.VINTF_INT_MASK + 4 * (place.vintf >> 5), 1 << (place.vintf & 31)];
    if (((this.#registers.get(map) ?? 0) & bit) === 0) this.onInterrupt();
  }

  #execute(at: number, vintf: number): number {
    const words = this.#words.subarray(0, 4);
    if (!readDwords(this.#on.memory, at, words, 4)) return CMDQ_ERR.ABT;
    const { VMID, HYP_OWN } = decode(VINTF_CONFIG, [this.#vintfConfig(vintf)]);
    const replace = (sid: number) => this.#replacedSid(vintf, sid);
    return runGuestCommand(this.#on, words, HYP_OWN === 1 ? undefined : { vmid: VMID, replace });
  }

  /** The unit's name of a guest's stream, or -1. */
  #replacedSid(vintf: number, sid: number): number {
    const registers = CMDQV.VINTF + vintf * CMDQV.VINTF_STRIDE;
    for (let at = 0; at < this.sidsPerVintf; at++) {
      const match = this.#registers.get(registers + VINTF.SID_MATCH + 4 * at) ?? 0;
      const { EN, VIRT_SID } = decode(SID_MATCH, [match]);
      if (EN === 1 && VIRT_SID === sid) {
        return this.#registers.get(registers + VINTF.SID_REPLACE + 4 * at) ?? 0;
      }
    }
    return -1;
  }

  /** A queue's base: address bits below its size are zero. */
  #base(queue: number): { readonly ADDR: number; readonly LOG2SIZE: number } {
    const at = CMDQV.VCMDQ_PAGE1 + queue * CMDQV.VCMDQ_STRIDE + VCMDQ.BASE;
    const words = [this.#registers.get(at) ?? 0, this.#registers.get(at + 4) ?? 0];
    const { ADDR, LOG2SIZE } = decode(VCMDQ_BASE, words);
    const lg2 = Math.min(LOG2SIZE, MAX_QUEUE_LG2);
    return { ADDR: ADDR - (ADDR % (COMMAND_BYTES * 2 ** lg2)), LOG2SIZE: lg2 };
  }

  #hasError(place: Place): boolean {
    return this.#page0(place, GERROR as number) !== this.#page0(place, GERRORN as number);
  }

  /** One dword a queue's registers, in the page that the guest maps where there is one. */
  #page0(place: Place, word: number): number {
    const at = this.#page0Address(place, word);
    if (at === 0) return this.#registers.get(localOffset(place, word)) ?? 0;
    const words = this.#words.subarray(4, 5);
    return readDwords(this.#on.memory, at, words, 1) ? (words[0] as number) >>> 0 : 0;
  }

  #setPage0(place: Place, word: number, value: number): void {
    const at = this.#page0Address(place, word);
    if (at === 0) this.#registers.set(localOffset(place, word), value >>> 0);
    else writeDwords(this.#on.memory, at, [value | 0]);
  }

  #page0Address({ vintf, lvcmdq }: Place, word: number): number {
    const at = CMDQV.VINTF + vintf * CMDQV.VINTF_STRIDE + VINTF.PAGE0_BASE;
    const [lo, hi] = [this.#registers.get(at) ?? 0, this.#registers.get(at + 4) ?? 0];
    const base = (hi & 0xffff) * 2 ** 32 + lo - (lo % 4096);
    return base === 0 ? 0 : base + lvcmdq * CMDQV.VCMDQ_STRIDE + 4 * word;
  }

  #vintfConfig(vintf: number): number {
    const at = CMDQV.VINTF + vintf * CMDQV.VINTF_STRIDE + VINTF.CONFIG;
    return this.#registers.get(at) ?? 0;
  }

  #vintfRegister(
    offset: number,
  ): { readonly vintf: number; readonly register: number } | undefined {
    const at = offset - CMDQV.VINTF;
    if (at < 0 || at >= this.vintfs * CMDQV.VINTF_STRIDE) return undefined;
    return { vintf: Math.floor(at / CMDQV.VINTF_STRIDE), register: at % CMDQV.VINTF_STRIDE };
  }

  /** The queue of a register on some page 0; page 1 registers are plain. */
  #queueRegister(offset: number): { readonly place: Place; readonly word: number } | undefined {
    const global = offset - CMDQV.VCMDQ_PAGE0;
    if (global >= 0 && global < this.vcmdqs * CMDQV.VCMDQ_STRIDE) {
      const place = this.#allocated.get(Math.floor(global / CMDQV.VCMDQ_STRIDE));
      return place && wordOf(place, global);
    }
    const local = offset - CMDQV.VINTF_PAGES;
    if (local < 0 || local % CMDQV.VINTF_PAGES_STRIDE >= CMDQV.PAGE_BYTES) return undefined;
    const vintf = Math.floor(local / CMDQV.VINTF_PAGES_STRIDE);
    const inPage = local % CMDQV.VINTF_PAGES_STRIDE;
    return wordOf({ vintf, lvcmdq: Math.floor(inPage / CMDQV.VCMDQ_STRIDE) }, inPage);
  }

  #allocate(offset: number, value: number): void {
    const queue = (offset - CMDQV.CMDQ_ALLOC) / 4;
    const { ALLOCATED, LVCMDQ, VINTF: vintf } = decode(CMDQ_ALLOC, [value >>> 0]);
    if (ALLOCATED === 1) this.#allocated.set(queue, { vintf, lvcmdq: LVCMDQ });
    else this.#allocated.delete(queue);
  }

  #places(matches: (queue: number, place: Place) => boolean): Place[] {
    return [...this.#allocated]
      .filter(([queue, place]) => matches(queue, place) && this.#hasError(place))
      .map(([, place]) => place);
  }

  #vintfErrors(offset: number): number {
    const first = 8 * (offset - CMDQV.VINTF_ERR_MAP);
    const places = this.#places((_, { vintf }) => vintf >= first && vintf < first + 32);
    return bitsOf(places.map(({ vintf }) => vintf - first));
  }

  #queueErrors(offset: number): number {
    const first = 8 * (offset - CMDQV.CMDQ_ERR_MAP);
    const bad = [...this.#allocated].filter(
      ([queue, place]) => queue >= first && queue < first + 32 && this.#hasError(place),
    );
    return bitsOf(bad.map(([queue]) => queue - first));
  }

  #ownErrors(vintf: number, dword: number): number {
    const places = this.#places((_, place) => place.vintf === vintf);
    const own = places.map(({ lvcmdq }) => lvcmdq - 32 * dword);
    return bitsOf(own.filter((bit) => bit >= 0 && bit < 32));
  }
}

const isIn = (offset: number, first: number, dwords: number): boolean =>
  offset >= first && offset < first + 4 * dwords;

const isReadOnly = (offset: number): boolean =>
  offset === CMDQV.PARAM ||
  offset === CMDQV.STATUS ||
  isIn(offset, CMDQV.VINTF_ERR_MAP, 2) ||
  isIn(offset, CMDQV.CMDQ_ERR_MAP, 4);

const wordOf = (place: Place, offset: number) => {
  const word = Math.floor((offset % CMDQV.VCMDQ_STRIDE) / 4);
  return word < QUEUE_WORDS ? { place, word } : undefined;
};

const localOffset = ({ vintf, lvcmdq }: Place, word: number): number =>
  CMDQV.VINTF_PAGES + vintf * CMDQV.VINTF_PAGES_STRIDE + lvcmdq * CMDQV.VCMDQ_STRIDE + 4 * word;

const bitsOf = (bits: readonly number[]): number =>
  bits.reduce((map, bit) => (map | (1 << bit)) >>> 0, 0);
