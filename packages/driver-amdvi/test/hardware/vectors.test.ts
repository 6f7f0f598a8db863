import { decode, encode, hi32, type Layout, lo32, u64 } from '@iommukit/bits';
import { ACCESS, createAtsCompletion } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { decodeRange } from '../../src/hardware/invalidation-range.ts';
import { AmdviHardware } from '../../src/hardware/iommu.ts';
import { COMMAND_LAYOUTS, DTE, EVENT_ENTRY, PPR_EVENT_ENTRY } from '../../src/spec/index.ts';
import { SparseMemory } from '../sparse-memory.ts';
import {
  accessOf,
  boot,
  data,
  type Fields,
  LOG,
  PPR_LOG,
  type Vector,
  type VectorRequest,
  write64,
} from '../vectors.ts';

const word = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;

/** What a request gives, in the words of a vector. */
const answer = (unit: AmdviHardware, request: VectorRequest) => {
  const rid = Number(request.device_id);
  const pasid = request.pasid === null ? -1 : Number(request.pasid);
  const address = BigInt(request.address);
  const pfn = Number(address >> 12n);
  const offset = Number(address & 0xfffn);
  const access = accessOf(request);
  const spaOf = (frame: number) => word((BigInt(frame) << 12n) | (address & 0xfffn));
  if (request.kind !== 'translation') {
    const frame =
      request.kind === 'translated'
        ? unit.translatedPage(rid, pasid, pfn, access, offset)
        : unit.translatePage(rid, pasid, pfn, access, offset);
    return { fault: frame < 0, ...(frame >= 0 && { spa: spaOf(frame) }) };
  }
  const completion = createAtsCompletion();
  unit.translationRequest(rid, pasid, pfn, access | ACCESS.WRITE, completion);
  const { status, read, write, sizeLg2 } = completion;
  const inPage = pfn % 2 ** (sizeLg2 - 12);
  return {
    fault: status !== 0,
    readable: read,
    writable: write,
    ...(read + write > 0 && { spa: spaOf(completion.pfn + inPage), page_shift: sizeLg2 }),
  };
};

describe('AMD IOMMU 2.1.3, 2.1.4, 2.2.2, 2.2.3, 2.2.6: worked translations', () => {
  for (const vector of data.translation) test(vector.name, () => checkVector(vector));
});

const checkVector = (vector: Vector): void => {
  for (const { request, expect: expected } of vector.cases) {
    const { memory, unit } = boot(vector);
    const result = answer(unit, request);
    expect(result.fault).toBe(expected.fault);
    const wanted = { spa: expected.spa, readable: expected.readable, writable: expected.writable };
    if (request.kind !== 'translation') expect(result.spa).toBe(wanted.spa);
    else if (!expected.fault) expect(result).toMatchObject(dropUndefined(wanted));
    if (expected.event) {
      expect([word(memory.load(LOG)), word(memory.load(LOG + 8))]).toEqual(expected.event.qwords);
    } else expect(unit.readReg32(0x2018)).toBe(0);
    for (const [pa, value] of Object.entries(expected.memory_after ?? {})) {
      expect(word(memory.load(Number(pa)))).toBe(value);
    }
  }
};

const dropUndefined = (values: object): object =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

test.each(data.size_encoding.map((item) => [item.name, item] as const))(
  'AMD IOMMU 2.4.3: range of %s',
  (_, { address_and_S, covers }) => {
    const value = BigInt(address_and_S);
    const range = decodeRange(Number(value & 0xffff_ffffn), Number(value >> 32n));
    const first = BigInt(range?.firstPfn ?? -1) << 12n;
    expect([word(first), word(first + (1n << BigInt(range?.sizeLg2 ?? 0)) - 1n)]).toEqual(covers);
  },
);

const qwords = (words: Uint32Array): string[] =>
  Array.from({ length: words.length / 2 }, (_, at) =>
    word(u64(words[2 * at] as number, words[2 * at + 1] as number)),
  );

/** Field names of the vectors and ours. */
const NAMES: Readonly<Record<string, string>> = {
  Mode: 'MODE',
  root: 'HOST_ROOT',
  dom: 'DOMAIN_ID',
  GIoV: 'GIOV',
  GPM: 'GUEST_PAGING_MODE',
  IntTabLen: 'INT_TAB_LEN',
  IntRoot: 'INT_TAB_ROOT',
  IntCtl: 'INT_CTL',
  SysMgt: 'SYS_MGT',
  InitP: 'INIT_PASS',
  EIntP: 'E_INT_PASS',
  NMIP: 'NMI_PASS',
  L0: 'LINT0_PASS',
  L1: 'LINT1_PASS',
  vImu: 'V_IMU_EN',
  GDev: 'G_DEVICE_ID',
  GID: 'GUEST_ID',
  address: 'ADDR',
  data: 'DATA',
  DeviceID: 'DEVICE_ID',
  DomainID: 'DOMAIN_ID',
  MaxPend: 'MAX_PEND',
  QueueID: 'QUEUE_ID',
  PFCount: 'PF_COUNT',
  code: 'RESPONSE',
  GuestID: 'GUEST_ID',
  vCmd: 'COMMAND',
};

/** Fields of a vector as values of a layout; wide ones that are split go to their parts. */
const valuesOf = (layout: Layout, fields: Fields): Record<string, bigint> => {
  const values: Record<string, bigint> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === 'all') values['ADDR'] = 0x7fff_ffff_ffff_f000n;
    else values[NAMES[name] ?? name] = BigInt(value);
  }
  const { gcr3, PASID } = values;
  if (gcr3 !== undefined) {
    delete values['gcr3'];
    values['GCR3_14_12'] = (gcr3 >> 12n) & 7n;
    values['GCR3_30_15'] = (gcr3 >> 15n) & 0xffffn;
    values['GCR3_51_31'] = gcr3 >> 31n;
  }
  if (PASID !== undefined && layout.fields['PASID_7_0']) {
    delete values['PASID'];
    values['PASID_7_0'] = PASID & 0xffn;
    values['PASID_15_8'] = (PASID >> 8n) & 0xffn;
    values['PASID_19_16'] = PASID >> 16n;
  }
  return values;
};

describe('bits of entries and commands', () => {
  const entries = data.encoding.filter(({ qwords: words }) => words !== undefined);
  test.each(entries.map((item) => [item.name, item] as const))('%s', (_, item) => {
    const expected = item.qwords as string[];
    const opcode = Number(BigInt(expected[0] as string) >> 60n);
    const layout: Layout = item.name.startsWith('DTE') ? DTE : (COMMAND_LAYOUTS[opcode] as Layout);
    const values = valuesOf(layout, item.fields);
    if (layout !== DTE) values['OPCODE'] = BigInt(opcode);
    // What software puts there when a vector does not say.
    if (layout.fields['QUEUE_ID']) {
      values['QUEUE_ID'] ??= values['DEVICE_ID'] as bigint;
      values['MAX_PEND'] ??= 32n;
    }
    // Ranges that a vector gives by its words alone.
    if (values['S'] === 1n && layout.fields['ADDR'] && values['ADDR'] === undefined) {
      values['ADDR'] = BigInt(expected[1] as string) & ~0xfffn;
    }
    expect(qwords(encode(layout, values as never))).toEqual(expected);
  });

  const registers = data.encoding.filter(({ offset }) => offset !== undefined);
  test.each(registers.map((item) => [item.name, item] as const))('%s', (name, item) => {
    const efr = name.includes('7542') ? 0x058f_77ef_2229_4aden : 0x0017_00f3_0000_98dbn;
    const unit = new AmdviHardware({
      memory: new SparseMemory(),
      capabilities: { efr, efr2: 8n },
    });
    const machine = name.includes('same machine') ? 0x058f_77ef_2229_4aden : efr;
    const read = machine === efr ? unit : unitOf(machine);
    const at = Number(item.offset);
    const value = BigInt(item.value as string);
    write64(read, at, value);
    expect(word(u64(read.readReg32(at), read.readReg32(at + 4)))).toBe(item.value);
  });
});

const unitOf = (efr: bigint) =>
  new AmdviHardware({ memory: new SparseMemory(), capabilities: { efr } });

describe('bits of events', () => {
  test.each(data.events.map((item) => [item.name, item] as const))('%s', (_, item) => {
    const isPpr = item.name === 'INVALID_PPR_REQUEST';
    const layout: Layout = isPpr ? PPR_EVENT_ENTRY : EVENT_ENTRY;
    const words = item.qwords.flatMap((qword) => [lo32(BigInt(qword)), hi32(BigInt(qword))]);
    const event = decode(layout, words) as Readonly<Record<string, number | bigint>>;
    expect(qwords(encode(layout, event as never))).toEqual(item.qwords);
    const pasidLow = event[isPpr ? 'PASID_15_0' : 'DOMAIN_ID'] as number;
    const decoded: Readonly<Record<string, unknown>> = {
      code: event['CODE'],
      DeviceID: event['DEVICE_ID'],
      DomainID: event['DOMAIN_ID'],
      Type: event['TYPE'],
      TR: event['TR'],
      GN: event['GN'],
      tag: event['PRGI'],
      PASID: (event['PASID_19_16'] as number) * 0x1_0000 + pasidLow,
      address: event['ADDR'],
    };
    for (const [name, value] of Object.entries(item.decode)) {
      if (name === 'flags') for (const flag of value as string[]) expect(event[flag]).toBe(1);
      // Some addresses carry a remark in parentheses.
      else expect(BigInt(decoded[name] as number)).toBe(BigInt(String(value).split(' ')[0] ?? ''));
    }
  });
});

describe('AMD IOMMU 2.6: worked page requests', () => {
  test.each(data.ppr.map((item) => [item.name, item] as const))('%s', (_, item) => {
    const { fields } = item;
    const flags = fields['flags'] as string[];
    const rid = Number(fields['device_id']);
    const { memory, unit } = boot({
      memory: { [0x100_0000 + rid * 32]: word(0x6090_0000_0000_0003n) },
      registers: { '0x0000': '0x000000000100000f', '0x0018': '0x000000000001a001' },
    });
    unit.pageRequest({
      rid,
      pasid: Number(fields['pasid']),
      addressPfn: Number(BigInt(fields['address'] as string) >> 12n),
      read: flags.includes('READ'),
      write: flags.includes('WRITE'),
      exec: flags.includes('EXEC'),
      priv: !flags.includes('US'),
      last: fields['last'] === 1,
      prgi: Number(fields['prgi']),
    });
    expect([word(memory.load(PPR_LOG)), word(memory.load(PPR_LOG + 8))]).toEqual(item.qwords);
  });
});
