/** A unit on sparse memory, with helpers that program it as software would. */
import {
  ACCESS,
  type BusPort,
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
  type PageGroupResponse,
} from '@iommukit/core';
import {
  createVtdHardware,
  type VtdHardware,
  type VtdHardwareOptions,
} from '../../src/hardware/index.ts';
import { SparseMemory } from '../sparse-memory.ts';

const GCMD = { TE: 0x8000_0000, SRTP: 0x4000_0000, QIE: 0x0400_0000 };
export const REG = {
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IQERCD: 0xb0,
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PRS: 0xdc,
  PECTL: 0xe0,
  FRCD: 0x220,
} as const;

/** Records everything that the unit sends. */
class RecordingBus implements BusPort {
  readonly responses: PageGroupResponse[] = [];
  readonly deviceTlb: [number, number, number, number, boolean][] = [];
  readonly messages: [number, number][] = [];
  answerOf: (rid: number) => InvalidationAnswer = () => INVALIDATION_ANSWER.COMPLETE;

  deliverPageResponse(response: PageGroupResponse): void {
    this.responses.push(response);
  }
  invalidateDeviceTlb(
    rid: number,
    pasid: number,
    pfn: number,
    sizeLg2: number,
    global: boolean,
  ): InvalidationAnswer {
    this.deviceTlb.push([rid, pasid, pfn, sizeLg2, global]);
    return this.answerOf(rid);
  }
  raiseMessage(address: number, data: number): void {
    this.messages.push([address, data]);
  }
}

export interface Record128 {
  readonly lo: bigint;
  readonly hi: bigint;
  readonly reason: number;
}

/** A unit with memory below 512 GiB, IQ at 100000h, PRQ at 200000h. */
export class BenchUnit {
  readonly memory = new SparseMemory([{ base: 0, size: 0x80_0000_0000 }]);
  readonly bus = new RecordingBus();
  readonly unit: VtdHardware;
  #tail = 0;
  #wide = true;

  constructor(options: Partial<VtdHardwareOptions> = {}) {
    this.unit = createVtdHardware({ memory: this.memory, bus: this.bus, ...options });
  }

  /** Words at byte addresses. */
  poke(words: Readonly<Record<string, string | bigint | number>>): this {
    for (const [address, word] of Object.entries(words))
      this.memory.write64(Number(address), BigInt(word));
    return this;
  }

  command(bits: number): void {
    const status = this.unit.readReg32(REG.GSTS) & 0x96ff_ffff;
    this.unit.writeReg32(REG.GCMD, (status | bits) >>> 0);
  }

  setRoot(rtaddr: bigint | number): this {
    this.unit.writeRegister64(REG.RTADDR, rtaddr);
    this.command(GCMD.SRTP);
    return this;
  }

  /** Root table pointer, then translation. */
  enable(rtaddr: bigint | number): this {
    this.setRoot(rtaddr).command(GCMD.TE);
    return this;
  }

  /** Queued invalidation at 100000h; one page. */
  enableQueue(wide = true): this {
    this.#wide = wide;
    this.#tail = 0;
    this.unit.writeRegister64(REG.IQT, 0);
    this.unit.writeRegister64(REG.IQA, 0x10_0000 | (wide ? 0x800 : 0));
    this.command(GCMD.QIE);
    return this;
  }

  /** Put descriptors into the queue and ring the bell once. */
  submit(...descriptors: readonly (readonly (bigint | number | string)[])[]): this {
    for (const words of descriptors) {
      for (let i = 0; i < (this.#wide ? 4 : 2); i++)
        this.memory.write64(0x10_0000 + this.#tail + i * 8, BigInt(words[i] ?? 0));
      this.#tail = (this.#tail + (this.#wide ? 32 : 16)) % 0x1000;
    }
    this.unit.writeRegister64(REG.IQT, this.#tail);
    return this;
  }

  read(rid: number, iova: bigint | number, pasid = -1, extra = 0): number {
    return this.unit.translatePage(rid, pasid, toPfn(iova), ACCESS.READ | extra);
  }

  write(rid: number, iova: bigint | number, pasid = -1, extra = 0): number {
    return this.unit.translatePage(rid, pasid, toPfn(iova), ACCESS.WRITE | extra);
  }

  record(index = 0, base: number = REG.FRCD): Record128 {
    const lo = this.unit.readRegister64(base + 16 * index);
    const hi = this.unit.readRegister64(base + 16 * index + 8);
    return { lo, hi, reason: Number((hi >> 32n) & 0xffn) };
  }

  clearRecord(index = 0, base: number = REG.FRCD): void {
    this.unit.writeReg32(base + 16 * index + 12, 0x8000_0000);
  }
}

export const toPfn = (address: bigint | number) => Number(BigInt(address) >> 12n);
