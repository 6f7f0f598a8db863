/**
 * A register page that records instead of translating: commands are acknowledged, descriptors are
 * read out of the ring, waits are executed. For tests of encodings and of the order of accesses.
 */
import { PhysicalMemory } from '@iommukit/core';
import type { RegisterFile } from '../../src/host/register-file.ts';

/** Offsets that the recorder acts on. */
const AT = { GCMD: 0x18, GSTS: 0x1c, FSTS: 0x34, IQH: 0x80, IQT: 0x88, IQA: 0x90, IQERCD: 0xb0 };

export type Access =
  | { readonly kind: 'register'; readonly offset: number; readonly lo: number; readonly hi: number }
  | { readonly kind: 'memory'; readonly pa: number; readonly bytes: number }
  | { readonly kind: 'descriptor'; readonly qw0: bigint; readonly qw1: bigint };

const u64 = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

export class RecordingUnit implements RegisterFile {
  readonly memory: PhysicalMemory;
  readonly log: Access[] = [];
  readonly values = new Map<number, number>();
  /** Called with each descriptor; true = report a queue error on it, 'timeout' = ITE. */
  fault: ((qw0: bigint, qw1: bigint) => 'iqe' | 'ite' | undefined) | undefined;
  #head = 0;

  /** @param memory RAM of a machine; default some of its own */
  constructor(cap: bigint, ecap: bigint, memory?: PhysicalMemory) {
    this.memory = memory ?? new PhysicalMemory();
    if (!memory) this.memory.addRegion({ name: 'ram', base: 0x1_0000_0000, size: 64 << 20 });
    this.#set64(0x8, cap);
    this.#set64(0x10, ecap);
    this.values.set(0, 0x60);
    this.memory.onWrite = (pa, bytes) => this.log.push({ kind: 'memory', pa, bytes });
  }

  #set64(offset: number, value: bigint): void {
    this.values.set(offset, Number(value & 0xffff_ffffn));
    this.values.set(offset + 4, Number(value >> 32n));
  }

  read32(offset: number): number {
    if (offset === AT.IQH) return this.#head;
    return (this.values.get(offset) ?? 0) >>> 0;
  }

  write32(offset: number, value: number): void {
    this.log.push({ kind: 'register', offset, lo: value >>> 0, hi: 0 });
    if (offset === AT.GCMD) this.values.set(AT.GSTS, (value & ~0x0800_0000) >>> 0);
    else if (offset === AT.FSTS) this.#clearStatus(value);
    else this.values.set(offset, value);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.log.push({ kind: 'register', offset, lo: lo >>> 0, hi: hi >>> 0 });
    this.values.set(offset, lo);
    this.values.set(offset + 4, hi);
    if (offset === AT.IQT) this.#run();
  }

  /** Descriptors handed over since `log` had `from` entries, waits left out. */
  descriptors(from = 0): bigint[][] {
    return this.log
      .slice(from)
      .flatMap((entry) => (entry.kind === 'descriptor' ? [[entry.qw0, entry.qw1]] : []))
      .filter(([qw0]) => ((qw0 as bigint) & 0xfn) !== 5n);
  }

  #clearStatus(value: number): void {
    this.values.set(AT.FSTS, this.read32(AT.FSTS) & ~value);
    this.#run();
  }

  #run(): void {
    if ((this.read32(AT.GSTS) & 0x0400_0000) === 0) return;
    const iqa = this.read32(AT.IQA);
    const base = this.read32(AT.IQA + 4) * 2 ** 32 + (iqa & ~0xfff);
    const size = (iqa & 7) + 1 > 0 ? 4096 << (iqa & 7) : 4096;
    const step = iqa & 0x800 ? 32 : 16;
    while ((this.read32(AT.FSTS) & 0x50) === 0 && this.#head !== this.read32(AT.IQT)) {
      if (!this.#execute(base + this.#head)) return;
      this.#head = (this.#head + step) % size;
    }
  }

  #execute(pa: number): boolean {
    const [w0, w1, w2, w3] = [0, 4, 8, 12].map((at) => this.memory.read32(pa + at)) as [
      number,
      number,
      number,
      number,
    ];
    const qw0 = u64(w0, w1);
    const qw1 = u64(w2, w3);
    const fault = this.fault?.(qw0, qw1);
    if (fault) {
      this.values.set(AT.FSTS, this.read32(AT.FSTS) | (fault === 'iqe' ? 0x10 : 0x40));
      if (fault === 'ite') this.values.set(AT.IQERCD + 4, w1 & 0xffff);
      return false;
    }
    this.log.push({ kind: 'descriptor', qw0, qw1 });
    if ((w0 & 0xf) === 5 && w0 & 0x20) this.memory.write32(w3 * 2 ** 32 + w2, w1);
    return true;
  }
}
