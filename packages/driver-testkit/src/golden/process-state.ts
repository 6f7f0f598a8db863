/**
 * The process of a replay: its memory, descriptors and variables.
 * @module
 */
import { filesOf, forkProcess, MAP_FLAG, PAGE_BYTES, type Process, VM_PROT } from '@iommukit/core';
import type { GoldenValue } from './sequence.ts';

/** Structs are put at the end of this area; nothing is mapped behind it. */
const BUFFER_BASE = 0x7e00_0000_0000;
const BUFFER_BYTES = 64 * PAGE_BYTES;

/** A variable that was a descriptor and is closed, or never was one. */
const CLOSED = 0xffff_ffffn;

/** One process of a replay. */
export class ReplayProcess {
  /** Another one after a migration. */
  process: Process;
  /** Captured values by name. */
  readonly variables: Map<string, bigint>;

  constructor(process: Process, variables = new Map<string, bigint>()) {
    this.process = process;
    this.variables = variables;
  }

  /** Map the area for structs; done once per sequence. */
  mapBuffers(): void {
    this.process.mmap({
      addr: BUFFER_BASE,
      length: BUFFER_BYTES,
      prot: VM_PROT.READ | VM_PROT.WRITE,
      flags: MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED,
    });
  }

  /** Put bytes where the first byte behind them cannot be accessed; returns their address. */
  place(bytes: Uint8Array): number {
    const at = BUFFER_BASE + BUFFER_BYTES - bytes.length;
    this.process.poke(at, bytes);
    return at;
  }

  /** Bytes of this process's memory. */
  peek(at: number | bigint, length: number): Uint8Array | undefined {
    return this.process.peek(at, length);
  }

  /** A child with a copy of memory and variables and shared descriptors. */
  fork(): ReplayProcess {
    return new ReplayProcess(forkProcess(this.process), new Map(this.variables));
  }

  /** The number behind a value: `'$name'` is a variable, 0 when it was never captured. */
  resolve(value: GoldenValue | undefined): bigint {
    if (value === undefined) return 0n;
    if (typeof value === 'number') return BigInt(value);
    return value.startsWith('$') ? (this.variables.get(value.slice(1)) ?? 0n) : BigInt(value);
  }

  /** The descriptor behind an `fd` member: a variable with or without `$`, or a number. */
  descriptor(fd: number | string | undefined): number {
    if (typeof fd === 'number') return fd;
    const name = fd?.startsWith('$') ? fd.slice(1) : (fd ?? '');
    return Number(this.variables.get(name) ?? CLOSED) | 0;
  }

  /** Close a descriptor; its variable is none any more. */
  close(fd: number | string | undefined): number {
    const result = filesOf(this.process).close(this.descriptor(fd));
    if (typeof fd === 'string') {
      this.variables.set(fd.startsWith('$') ? fd.slice(1) : fd, CLOSED);
    }
    return result;
  }
}
