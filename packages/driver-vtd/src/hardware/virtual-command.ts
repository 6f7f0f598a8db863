/**
 * Virtual command registers: PASID allocation by a hypervisor for its guest.
 *
 * @spec VT-d 11.4.15
 */
import { VCMD, VCRSP } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** Command codes. */
export const VIRTUAL_COMMAND = { NULL: 0, ALLOCATE_PASID: 1, FREE_PASID: 2 } as const;

/** Status codes. */
export const VIRTUAL_COMMAND_STATUS = { OK: 0, UNDEFINED: 1, NO_PASID: 16 } as const;

/** Who owns PASIDs: what the commands are passed to. */
export interface PasidAllocator {
  /** A free PASID, or -1. */
  allocatePasid(): number;
  /** False when the PASID is not allocated. */
  freePasid(pasid: number): boolean;
}

/** Allocates PASIDs of a fixed width in ascending order, from 1. */
export class PasidPool implements PasidAllocator {
  readonly #used = new Set<number>();
  readonly #limit: number;
  /** No PASID below is free. */
  #lowest = 1;

  constructor(pasidBits: number) {
    this.#limit = 2 ** pasidBits;
  }

  /** The lowest free PASID, or -1. */
  allocatePasid(): number {
    while (this.#used.has(this.#lowest)) this.#lowest++;
    if (this.#lowest >= this.#limit) return -1;
    this.#used.add(this.#lowest);
    return this.#lowest++;
  }

  /** False when the PASID is not allocated. */
  freePasid(pasid: number): boolean {
    if (!this.#used.delete(pasid)) return false;
    this.#lowest = Math.min(this.#lowest, pasid);
    return true;
  }

  /** PASIDs in use. */
  snapshot(): number[] {
    return [...this.#used];
  }

  /** Put a state back. */
  restore(used: readonly number[]): void {
    this.#used.clear();
    this.#lowest = 1;
    for (const pasid of used) this.#used.add(pasid);
  }
}

interface VirtualResponse {
  readonly status: number;
  readonly pasid: number;
}

function answer(command: number, operand: number, allocator: PasidAllocator): VirtualResponse {
  const { OK, UNDEFINED, NO_PASID } = VIRTUAL_COMMAND_STATUS;
  if (command === VIRTUAL_COMMAND.NULL) return { status: OK, pasid: 0 };
  if (command === VIRTUAL_COMMAND.ALLOCATE_PASID) {
    const pasid = allocator.allocatePasid();
    return pasid < 0 ? { status: NO_PASID, pasid: 0 } : { status: OK, pasid };
  }
  if (command !== VIRTUAL_COMMAND.FREE_PASID) return { status: UNDEFINED, pasid: 0 };
  return { status: allocator.freePasid(operand) ? OK : NO_PASID, pasid: 0 };
}

/** Software wrote the low dword of VCMD: execute, and answer in VCRSP. */
export function executeVirtualCommand(registers: RegisterFile, allocator: PasidAllocator): void {
  const lo = registers.get(VCMD.offset);
  const hi = registers.get(VCMD.offset + 4);
  const operand = (lo >>> 16) + (hi & 0xf) * 0x1_0000;
  const { status, pasid } = answer(lo & 0xff, operand, allocator);
  registers.set(VCRSP.offset, (status << 1) | ((pasid & 0xffff) << 16));
  registers.set(VCRSP.offset + 4, pasid >>> 16);
}
