import { decode, encode, type Layout } from '@iommukit/bits';
import { ACCESS, ATS_STATUS, type AtsCompletion, createAtsCompletion } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { featuresOf } from '../../src/hardware/index.ts';
import { deviceTlbSizeLg2 } from '../../src/hardware/invalidation-commands.ts';
import { pageRequestWords } from '../../src/hardware/page-request-queue.ts';
import * as spec from '../../src/spec/index.ts';
import { vectors as shared, vectorsText } from '../vectors.ts';
import { BenchUnit, toPfn } from './bench-unit.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  LEGACY,
  legacy,
  PASID,
  pasidEntry,
  RID,
  SCALABLE,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

type Words = Record<string, string>;
interface Request {
  rid: string;
  addr: string;
  kind: 'r' | 'w' | 'a';
  pasid?: string;
  pr?: string;
  at?: string;
  nw?: string;
}
interface Vector {
  name: string;
  rtaddr: string;
  memory: Words;
  request: Request;
  caps?: { sc?: number };
  reads?: string[];
  writes?: [string, string][];
  result: { pa: string; size: string; r: string; w: string; did?: string; gpa?: string };
  fault: { reason: string; recorded: boolean; frcd_lo: string; frcd_hi: string; bytes: string };
  completion?: string;
  status?: 'UR' | 'CA';
  reason?: string;
  reported?: boolean;
}

const vectors = JSON.parse(vectorsText);

const KIND = { r: ACCESS.READ, w: ACCESS.WRITE, a: ACCESS.ATOMIC } as const;

function prepare({ memory, rtaddr, caps }: Vector): BenchUnit {
  const bench = new BenchUnit(caps?.sc === 0 ? { capabilities: { ecap: { SC: 0 } } } : {}).poke(
    memory,
  );
  return bench.enable(BigInt(rtaddr));
}

function access(request: Request): number {
  return KIND[request.kind] | (request.pr === '0x1' ? ACCESS.PRIV : 0);
}

const pasidOf = (request: Request) => (request.pasid ? Number(request.pasid) : -1);

function send(bench: BenchUnit, request: Request): number {
  const { unit } = bench;
  const rid = Number(request.rid);
  const pfn = toPfn(BigInt(request.addr));
  if (request.at === '0x2') return unit.translatedPage(rid, pasidOf(request), pfn, access(request));
  if (request.at === '0x1') {
    unit.translationRequest(rid, pasidOf(request), pfn, access(request), createAtsCompletion());
    return -1;
  }
  return unit.translatePage(rid, pasidOf(request), pfn, access(request));
}

function bytesOf(...words: bigint[]): string {
  const view = new DataView(new ArrayBuffer(words.length * 8));
  words.forEach((word, i) => {
    view.setBigUint64(i * 8, word, true);
  });
  return [...new Uint8Array(view.buffer)].map((b) => b.toString(16).padStart(2, '0')).join('');
}

describe('walks', () => {
  it.each<[string, Vector]>(vectors.walks.map((v: Vector) => [v.name, v]))('%s', (_, vector) => {
    const bench = prepare(vector);
    const frame = send(bench, vector.request);
    const offset = BigInt(vector.request.addr) & 0xfffn;
    expect(BigInt(frame) * 4096n + offset).toBe(BigInt(vector.result.pa));
    for (const [address, word] of vector.writes ?? [])
      expect([address, bench.memory.read64(Number(address))]).toEqual([address, BigInt(word)]);
    const written = new Set((vector.writes ?? []).map(([address]) => address));
    for (const [address, word] of Object.entries(vector.memory))
      if (!written.has(address))
        expect([address, bench.memory.read64(Number(address))]).toEqual([address, BigInt(word)]);
    expect(bench.unit.stats().faults).toBe(0);
    const { size, r, w, did } = vector.result;
    for (const entry of bench.unit.caches.iotlb.entries()) {
      expect(2 ** entry.pageLg2).toBe(Number(size));
      if (r !== undefined) expect([entry.meta & 1, (entry.meta >> 1) & 1]).toEqual([+r, +w]);
      if (did !== undefined) expect(entry.did).toBe(Number(did));
    }
  });
});

describe('faults', () => {
  it.each<[string, Vector]>(vectors.faults.map((v: Vector) => [v.name, v]))('%s', (_, vector) => {
    const bench = prepare(vector);
    expect(send(bench, vector.request)).toBeLessThan(0);
    const { lo, hi } = bench.record();
    if (!vector.fault.recorded) {
      expect(hi >> 63n).toBe(0n);
      return;
    }
    expect([lo.toString(16), hi.toString(16)]).toEqual([
      BigInt(vector.fault.frcd_lo).toString(16),
      BigInt(vector.fault.frcd_hi).toString(16),
    ]);
    expect(bytesOf(lo, hi)).toBe(vector.fault.bytes);
  });
});

/** The 64-bit completion entry of PCIe ATS. */
function completionWord(completion: AtsCompletion): bigint {
  const { sizeLg2, read, write, noSnoop, priv, untranslatedOnly } = completion;
  let word = BigInt(completion.pfn) << 12n;
  if (sizeLg2 > 12) word |= ((1n << BigInt(sizeLg2 - 1)) - 0x1000n) | 0x800n;
  word |= BigInt(read | (write << 1) | (untranslatedOnly << 2) | (priv << 4) | (noSnoop << 10));
  return word;
}

describe('ATS translation requests', () => {
  it.each<[string, Vector]>(vectors.ats.map((v: Vector) => [v.name, v]))('%s', (_, vector) => {
    const bench = prepare(vector);
    const { request } = vector;
    const completion = createAtsCompletion();
    const wanted = request.nw === '0x1' ? ACCESS.READ : ACCESS.READ | ACCESS.WRITE;
    const priv = request.pr === '0x1' ? ACCESS.PRIV : 0;
    bench.unit.translationRequest(
      Number(request.rid),
      pasidOf(request),
      toPfn(BigInt(request.addr)),
      wanted | priv,
      completion,
    );
    const record = bench.record();
    if (vector.completion !== undefined) {
      expect(completion.status).toBe(ATS_STATUS.SUCCESS);
      expect(completionWord(completion).toString(16)).toBe(BigInt(vector.completion).toString(16));
      expect(record.hi >> 63n).toBe(0n);
    } else {
      expect(completion.status).toBe(
        vector.status === 'CA' ? ATS_STATUS.COMPLETER_ABORT : ATS_STATUS.UNSUPPORTED_REQUEST,
      );
      expect(record.reason).toBe(Number(vector.reason));
      expect(record.hi >> 63n).toBe(vector.reported ? 1n : 0n);
    }
    for (const [address, word] of vector.writes ?? [])
      expect([address, bench.memory.read64(Number(address))]).toEqual([address, BigInt(word)]);
  });
});

describe('ATS completions as computed (PCIe 10.2.3)', () => {
  const LEGACY_ATS = { rtaddr: LEGACY, memory: { ...legacy(0x1_0005n), ...secondStage() } };
  const firstStageOf = (leaf: bigint) => ({
    rtaddr: SCALABLE,
    memory: {
      ...scalable(),
      ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0001n),
      ...firstStage(leaf),
    },
  });
  /** Tables, address, PASID and privilege that lead to each completion. */
  const ASKED: Record<
    string,
    {
      rtaddr: bigint;
      memory: Record<number, bigint>;
      address: bigint;
      pasid?: number;
      priv?: boolean;
    }
  > = {
    '4K read+write': { ...LEGACY_ATS, address: IOVA },
    '2M read only': {
      ...LEGACY_ATS,
      memory: { ...LEGACY_ATS.memory, 73736: 0x4000_0081n },
      address: 0x8021_2000n,
    },
    '1G rw, N=1 (device must clear No Snoop)': {
      ...LEGACY_ATS,
      memory: { ...LEGACY_ATS.memory, 69648: 0x1_4000_0883n },
      address: 0xb123_4000n,
    },
    '4K privileged rw': { ...firstStageOf(0x5500_0003n), address: VA, pasid: PASID, priv: true },
    'no permission (recoverable fault)': { ...firstStageOf(0n), address: VA, pasid: PASID },
    'interrupt range, NW=0 (S.1)': { ...LEGACY_ATS, address: 0xfee0_1000n },
  };

  it.each(shared.translation_completions.map(({ name, word }) => [name, word] as const))(
    '%s',
    (name, word) => {
      const asked = ASKED[name];
      if (asked === undefined) throw new Error(`no request leads to '${name}'`);
      const { rtaddr, memory, address, pasid = -1, priv = false } = asked;
      const bench = new BenchUnit().poke(memory).enable(rtaddr);
      const completion = createAtsCompletion();
      const access = ACCESS.READ | ACCESS.WRITE | (priv ? ACCESS.PRIV : 0);
      bench.unit.translationRequest(RID, pasid, toPfn(address), access, completion);
      expect(completion.status).toBe(ATS_STATUS.SUCCESS);
      expect(completionWord(completion).toString(16)).toBe(BigInt(word).toString(16));
    },
  );
});

describe('second stage alone (VT-d 3.7)', () => {
  it.each(shared.ss_raw.map((walk) => [walk.table, walk] as const))(
    'table at %s: address, size and rights',
    (_, { table, aw, memory, addr, pa, size, r, w }) => {
      const bench = new BenchUnit().poke(memory);
      bench.poke(legacy(BigInt(table) | 5n, BigInt(aw) | 0x500n)).enable(LEGACY);
      const completion = createAtsCompletion();
      bench.unit.translationRequest(
        RID,
        -1,
        toPfn(BigInt(addr)),
        ACCESS.READ | ACCESS.WRITE,
        completion,
      );
      expect(completion).toMatchObject({
        pfn: toPfn((BigInt(pa) / BigInt(size)) * BigInt(size)),
        sizeLg2: Math.log2(Number(size)),
        read: r,
        write: w,
      });
      const frame = bench.write(RID, BigInt(addr));
      expect(BigInt(frame) * 4096n + (BigInt(addr) & 0xfffn)).toBe(BigInt(pa));
    },
  );
});

describe('layouts against computed words', () => {
  const dwords = (qw: string[]) =>
    qw.flatMap((word) => [Number(BigInt(word) & 0xffff_ffffn), Number(BigInt(word) >> 32n)]);
  const BY_TYPE: Record<number, Layout> = Object.fromEntries(
    [
      spec.CC_INV_DSC,
      spec.IOTLB_INV_DSC,
      spec.DEV_TLB_INV_DSC,
      spec.IEC_INV_DSC,
      spec.INV_WAIT_DSC,
      spec.P_IOTLB_INV_DSC,
      spec.PC_INV_DSC,
      spec.P_DEV_TLB_INV_DSC,
      spec.PAGE_GRP_RESP_DSC,
      spec.HPT_INV_DSC,
    ].map((layout, i) => [i + 1, layout as unknown as Layout]),
  );

  it.each<[string, { qw: string[] }]>(
    vectors.descriptors.map((d: { name: string }) => [d.name, d]),
  )('descriptor %s decodes and encodes to the same words', (_, { qw }) => {
    const words = dwords(qw);
    const layout = BY_TYPE[(words[0] as number) & 15] as Layout;
    layout.reservedMasks.forEach((mask, i) => {
      expect((words[i] as number) & mask).toBe(0);
    });
    expect([...encode(layout, decode(layout, words))]).toEqual(words);
  });

  it.each([
    ['dev_tlb_inv sid=0x20 16 pages at 0x80000000 (S=1)', 16],
    ['dev_tlb_inv sid=0x20 everything', 64],
    ['dev_tlb_inv sid=0x20 pfsid=0x20 mip=4 one 4K page 0x80005000', 12],
  ])('%s covers 2^%i bytes', (name, sizeLg2) => {
    const { qw } = vectors.descriptors.find((d: { name: string }) => d.name === name);
    const words = dwords(qw);
    const s = ((words[2] as number) & 1) !== 0;
    expect(deviceTlbSizeLg2(s, words[2] as number, words[3] as number)).toBe(sizeLg2);
  });

  it.each<[string, { size: string; addr63_12: string; S: number }]>(
    vectors.size_encoding.map((v: { size: string }) => [v.size, v]),
  )('size encoding of %s', (_, { size, addr63_12, S }) => {
    const address = BigInt(addr63_12);
    const lg2 = deviceTlbSizeLg2(S === 1, Number(address & 0xffff_ffffn), Number(address >> 32n));
    expect(1n << BigInt(lg2)).toBe(BigInt(size));
  });

  it.each<[string, { qw: string[]; bytes: string }]>(
    vectors.page_requests.map((p: { name: string }) => [p.name, p]),
  )('page request: %s', (_, { qw, bytes }) => {
    expect(bytesOf(...qw.map(BigInt))).toBe(bytes);
    const words = dwords(qw);
    const f = decode(spec.PAGE_REQ_DSC, words);
    const out = new Int32Array(8);
    pageRequestWords(
      {
        rid: f.RID,
        pasid: f.PP ? f.PASID : -1,
        addressPfn: f.ADDR / 4096,
        read: f.RDR === 1,
        write: f.WRR === 1,
        exec: f.EXR === 1,
        priv: f.PMR === 1,
        last: f.LPIG === 1,
        prgi: f.PRGI,
      },
      out,
    );
    expect([...out].map((word) => word >>> 0)).toEqual(words);
  });

  it.each<[string, { lo: string; hi: string; bytes: string }]>(
    vectors.fault_records.map((r: { name: string }) => [r.name, r]),
  )('fault record: %s', (_, { lo, hi, bytes }) => {
    expect(bytesOf(BigInt(lo), BigInt(hi))).toBe(bytes);
    const words = dwords([lo, hi]);
    expect([...encode(spec.FAULT_RECORD, decode(spec.FAULT_RECORD, words))]).toEqual(words);
  });

  it.each<[string, { words: string[] }]>(vectors.entries.map((e: { name: string }) => [e.name, e]))(
    'entry: %s',
    (name, { words }) => {
      const layout = (name.startsWith('legacy')
        ? spec.CONTEXT_ENTRY
        : name.startsWith('scalable context')
          ? spec.SM_CONTEXT_ENTRY
          : spec.PASID_ENTRY) as unknown as Layout;
      const image = dwords(words);
      layout.reservedMasks.forEach((mask, i) => {
        expect((image[i] as number) & mask).toBe(0);
      });
      expect([...encode(layout, decode(layout, image))]).toEqual(image);
    },
  );
});

describe('capability registers', () => {
  it.each<[string, Record<string, number | string>]>(
    vectors.cap.map((c: { value: string }) => [c.value, c]),
  )('CAP %s', (value, expected) => {
    const cap = BigInt(value);
    const f = decode(spec.CAP, [Number(cap & 0xffff_ffffn), Number(cap >> 32n)]);
    for (const name of ['ND', 'RWBF', 'PLMR', 'PHMR', 'CM', 'ZLR', 'PSI', 'MAMV', 'FS1GP'] as const)
      expect([name, f[name]]).toEqual([name, expected[name]]);
    expect(f.SAGAW).toBe(Number(expected['SAGAW']));
    expect(f.MGAW + 1).toBe(expected['MGAW']);
    expect(f.FRO * 16).toBe(Number(expected['frcd_offset']));
    expect(f.NFR + 1).toBe(expected['NFR']);
    expect(f.SSLPS).toBe(Number(expected['SSLPS']));
    expect(f.ESRTPS).toBe(expected['ESRTPS']);
  });

  it.each<[string, { set: string[]; iotlb_offset: string; pasid_bits: number }]>(
    vectors.ecap.map((e: { value: string }) => [e.value, e]),
  )('ECAP %s', (value, { set, iotlb_offset, pasid_bits }) => {
    const ecap = BigInt(value);
    const f: Record<string, number> = decode(spec.ECAP, [
      Number(ecap & 0xffff_ffffn),
      Number(ecap >> 32n),
    ]);
    for (const name of set) expect([name, f[name]]).toEqual([name, 1]);
    const flags = Object.entries(f).filter(
      ([name, v]) => v === 1 && !['PSS', 'IRO'].includes(name),
    );
    expect(flags.map(([name]) => name).sort()).toEqual([...set].sort());
    expect((f['IRO'] as number) * 16).toBe(Number(iotlb_offset));
    expect((f['PSS'] as number) + 1).toBe(pasid_bits);
  });

  it('the default unit is the recommended one', () => {
    const { VER, CAP, ECAP, ecap_decoded } = vectors.model_registers;
    const { unit } = new BenchUnit();
    expect(unit.readReg32(0)).toBe(Number(VER));
    expect(unit.readRegister64(8)).toBe(BigInt(CAP));
    expect(unit.readRegister64(0x10)).toBe(BigInt(ECAP));
    expect(featuresOf().pasidBits).toBe(ecap_decoded.pasid_bits);
  });

  it.each<[number, { QS: number; entries256: number; prq_entries: number; bytes: string }]>(
    vectors.queues.map((q: { QS: number }) => [q.QS, q]),
  )('a 256-bit queue of QS %i wraps after its last entry', (_, { QS, entries256, bytes }) => {
    expect(Number(bytes) / 32).toBe(entries256);
    const bench = new BenchUnit();
    bench.setRoot(0x3400);
    bench.unit.writeRegister64(0x90, 0x10_0800 | QS);
    bench.command(0x0400_0000);
    for (let i = 0; i < entries256; i++) bench.memory.write64(0x10_0000 + i * 32, 0x5n);
    bench.unit.writeRegister64(0x88, (entries256 - 1) * 32);
    expect(bench.unit.readRegister64(0x80)).toBe(BigInt((entries256 - 1) * 32));
    bench.unit.writeRegister64(0x88, 0);
    expect(bench.unit.readRegister64(0x80)).toBe(0n);
    expect(bench.unit.stats().descriptors).toBe(entries256);
  });
});
