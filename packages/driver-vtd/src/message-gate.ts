import type { BusPort, InvalidationAnswer, PageGroupResponse } from '@iommukit/core';
import type { RegisterFile } from './host/register-file.ts';

/** The register accesses of a hardware unit. */
interface RegisterPort {
  readReg32(offset: number): number;
  writeReg32(offset: number, value: number): void;
}

/**
 * Stands between a unit and the bus. A page response or an interrupt ends in other people's code,
 * which may well program the unit again; on silicon that happens after the register write that
 * caused it. So what a register write sends is delivered when the write is over.
 */
export class MessageGate implements BusPort {
  readonly #bus: BusPort;
  readonly #held: (() => void)[] = [];
  #writing = false;

  constructor(bus: BusPort) {
    this.#bus = bus;
  }

  /** The unit's registers for the host half. */
  registersOf(unit: RegisterPort): RegisterFile {
    return {
      read32: (offset) => unit.readReg32(offset),
      write32: (offset, value) => {
        this.#writing = true;
        unit.writeReg32(offset, value);
        this.#release();
      },
      write64: (offset, lo, hi) => {
        this.#writing = true;
        unit.writeReg32(offset + 4, hi);
        unit.writeReg32(offset, lo);
        this.#release();
      },
    };
  }

  deliverPageResponse(response: PageGroupResponse): void {
    this.#deliver(() => this.#bus.deliverPageResponse(response));
  }

  raiseMessage(address: number, data: number): void {
    this.#deliver(() => this.#bus.raiseMessage(address, data));
  }

  /** Runs no code but the device's own, and its answer is waited for. */
  invalidateDeviceTlb(
    rid: number,
    pasid: number,
    addressPfn: number,
    sizeLg2: number,
    global: boolean,
  ): InvalidationAnswer {
    return this.#bus.invalidateDeviceTlb(rid, pasid, addressPfn, sizeLg2, global);
  }

  #deliver(send: () => void): void {
    if (this.#writing) this.#held.push(send);
    else send();
  }

  /** The write is over: deliver what it sent. Deliveries may write again, and so get here again. */
  #release(): void {
    this.#writing = false;
    while (this.#held.length > 0) this.#held.shift()?.();
  }
}
