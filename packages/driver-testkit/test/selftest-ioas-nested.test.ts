/**
 * Ground of the kernel's tests of nested HWPTs, fault queues and hardware information.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c iommufd_ioas.alloc_hwpt_nested, .get_hw_info
 */
import { HWPT_ALLOC } from '@iommukit/core';
import { MOCK_TYPE } from '@iommukit/driver-testkit';
import { expect, it } from 'vitest';
import { type Fields, type RawKit, SCRATCH } from './raw-kit.ts';
import { roundTripFault } from './selftest-faults.ts';
import { describeIoas, type IoasFixture } from './selftest-ioas.ts';

const IOTLB_DEFAULT = 0xbadbeef;
const NESTED = { data_type: MOCK_TYPE.HWPT_DATA, data_len: 8 };
const INVALIDATE_BYTES = 8;

const nestedFields = (kit: RawKit, dev: bigint, pt: bigint, fields: Fields = {}): Fields => {
  const data = kit.words([IOTLB_DEFAULT, 0]);
  return { dev_id: dev, pt_id: pt, ...NESTED, data_uptr: data, ...fields };
};

const nested = (kit: RawKit, dev: bigint, pt: bigint, fields: Fields = {}): string =>
  kit.rc('HWPT_ALLOC', nestedFields(kit, dev, pt, fields));

const iotlb = (kit: RawKit, id: bigint, values: readonly number[]): string[] =>
  values.map((value, index) =>
    kit.rc('TEST_MD_CHECK_IOTLB', { id, iotlb_id: index, iotlb: value }),
  );
const ALL_OK = ['ok', 'ok', 'ok', 'ok'];

/** Invalidate with `[flags, index]` entries: the errno's name and how many were handled. */
const invalidate = (
  kit: RawKit,
  id: bigint,
  entries: readonly (readonly [number, number])[],
  fields: Fields = {},
): [string, bigint | undefined] => {
  const rc = kit.rc('HWPT_INVALIDATE', {
    hwpt_id: id,
    data_uptr: kit.words(entries.flat()),
    data_type: MOCK_TYPE.INVALIDATE,
    entry_len: INVALIDATE_BYTES,
    entry_num: entries.length,
    ...fields,
  });
  return [rc, kit.answer['entry_num']];
};

interface Hwpts {
  readonly parent: bigint;
  readonly plain: bigint;
  readonly first: bigint;
  readonly second: bigint;
}

const twoNested = ({ kit, dev, ioas }: IoasFixture): Hwpts => {
  const parent = kit.hwpt(dev, ioas, HWPT_ALLOC.NEST_PARENT);
  const plain = kit.hwpt(dev, ioas);
  const make = () => kit.make('HWPT_ALLOC', 'out_hwpt_id', nestedFields(kit, dev, parent));
  return { parent, plain, first: make(), second: make() };
};

describeIoas('iommufd_ioas alloc_hwpt_nested', (of, variant) => {
  it.runIf(variant.devices === 0)('without a device nothing can be made', () => {
    const { kit, ioas, dev, stdev } = of();
    expect(kit.rc('HWPT_ALLOC', { dev_id: dev, pt_id: ioas })).toBe('ENOENT');
    expect(nested(kit, dev, 0n)).toBe('ENOENT');
    expect(kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: 0 })).toBe('ENOENT');
  });

  it.skipIf(variant.devices === 0)('what cannot be allocated', () => {
    const { kit, ioas, dev } = of();
    const { NEST_PARENT, DIRTY_TRACKING } = HWPT_ALLOC;
    const alloc = (fields: Fields) => kit.rc('HWPT_ALLOC', fields);
    expect(alloc({ dev_id: ioas, pt_id: dev })).toBe('ENOENT');
    expect(alloc({ dev_id: dev, pt_id: dev })).toBe('EINVAL');
    const both = { dev_id: dev, pt_id: ioas, flags: NEST_PARENT | HWPT_ALLOC.FAULT_ID_VALID };
    expect(alloc(both)).toBe('EOPNOTSUPP');
    const { parent, plain, first } = twoNested(of());
    const cases: readonly (readonly [string, bigint, Fields])[] = [
      ['EINVAL', parent, { data_type: 0 }],
      ['EOPNOTSUPP', parent, { data_type: MOCK_TYPE.HWPT_DATA + 1 }],
      ['EINVAL', parent, { data_len: 3 }],
      ['EFAULT', parent, { data_uptr: 0 }],
      ['EOPNOTSUPP', parent, { flags: NEST_PARENT }],
      ['EOPNOTSUPP', parent, { flags: DIRTY_TRACKING }],
      ['ENOENT', parent, { flags: HWPT_ALLOC.FAULT_ID_VALID }],
      ['EINVAL', plain, {}],
      ['EINVAL', first, {}],
    ];
    for (const [rc, pt, fields] of cases) {
      expect([rc, fields]).toEqual([nested(kit, dev, pt, fields), fields]);
    }
    expect(kit.destroy(parent)).toBe('EBUSY');
  });

  it.skipIf(variant.devices === 0)('what cannot be invalidated, and how far a list got', () => {
    const { kit } = of();
    const { parent, first, second } = twoNested(of());
    const { INVALIDATE } = MOCK_TYPE;
    expect(invalidate(kit, parent, [[0, 0]])).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [])).toEqual(['ok', 0n]);
    const bad = { data_type: INVALIDATE + 1 };
    expect(invalidate(kit, first, [], bad)).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], bad)).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { entry_len: 9 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { entry_len: 1 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { entry_len: 0 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { entry_len: 4097 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { entry_num: 2 ** 19 + 1 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0, 0]], { data_uptr: 0 })).toEqual(['EINVAL', 0n]);
    expect(invalidate(kit, first, [[0xffff_ffff, 0]])).toEqual(['EOPNOTSUPP', 0n]);
    expect(invalidate(kit, first, [[0, 4]])).toEqual(['EINVAL', 0n]);
    const d = IOTLB_DEFAULT;
    expect(iotlb(kit, first, [d, d, d, d])).toEqual(ALL_OK);
    const wrongFlags: [number, number] = [0xffff_ffff, 1];
    expect(invalidate(kit, first, [[0, 0], wrongFlags])).toEqual(['EOPNOTSUPP', 1n]);
    expect(iotlb(kit, first, [0, d, d, d])).toEqual(ALL_OK);
    expect(
      invalidate(kit, first, [
        [0, 0],
        [0, 4],
      ]),
    ).toEqual(['EINVAL', 1n]);
    expect(iotlb(kit, first, [0, d, d, d])).toEqual(ALL_OK);
    expect(invalidate(kit, first, [[0, 1]])).toEqual(['ok', 1n]);
    expect(iotlb(kit, first, [0, 0, d, d])).toEqual(ALL_OK);
    expect(
      invalidate(kit, first, [
        [0, 2],
        [0, 3],
      ]),
    ).toEqual(['ok', 2n]);
    expect(iotlb(kit, first, [0, 0, 0, 0])).toEqual(ALL_OK);
    expect(iotlb(kit, second, [d, d, d, d])).toEqual(ALL_OK);
    expect(invalidate(kit, second, [[1, 0]])).toEqual(['ok', 1n]);
    expect(iotlb(kit, second, [0, 0, 0, 0])).toEqual(ALL_OK);
  });

  it.skipIf(variant.devices === 0)('a chain of replacements, page faults on the way', () => {
    const fixture = of();
    const { kit, ioas, dev, stdev } = fixture;
    const { parent, plain, first, second } = twoNested(fixture);
    const queue = kit.ok('FAULT_QUEUE_ALLOC');
    const [faultId, faultFd] = [queue['out_fault_id'] ?? 0n, Number(queue['out_fault_fd'])];
    const withFaults = { flags: HWPT_ALLOC.FAULT_ID_VALID, fault_id: faultId };
    const fields = nestedFields(kit, dev, parent, withFaults);
    const faulting = kit.make('HWPT_ALLOC', 'out_hwpt_id', fields);
    const replace = (pt: bigint) => kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: pt });

    expect(replace(first)).toBe('ok');
    expect(kit.destroy(first)).toBe('EBUSY');
    expect(replace(second)).toBe('ok');
    expect(kit.destroy(second)).toBe('EBUSY');
    expect(kit.destroy(first)).toBe('ok');
    expect(replace(faulting)).toBe('ok');
    expect(kit.destroy(faulting)).toBe('EBUSY');
    roundTripFault(kit, dev, faultFd, 0xffff_ffff);
    expect(replace(second)).toBe('ok');
    expect(kit.destroy(faulting)).toBe('ok');
    expect(replace(parent)).toBe('ok');
    expect(kit.destroy(second)).toBe('ok');
    expect(replace(ioas)).toBe('ok');
    kit.closeFd(faultFd);
    for (const id of [parent, plain, faultId]) expect(kit.destroy(id)).toBe('ok');
  });
});

describeIoas('iommufd_ioas get_hw_info', (of, variant) => {
  const REGISTER = [0, 0xdead_beef];
  const NOISE = Array.from({ length: 8 }, () => 0xffff_ffff);
  const info = (fields: Fields) => of().kit.rc('GET_HW_INFO', { dev_id: of().dev, ...fields });

  it.runIf(variant.devices === 0)('no device, no answer', () => {
    expect(info({ data_len: 8, data_uptr: SCRATCH })).toBe('ENOENT');
  });

  it.skipIf(variant.devices === 0).each([
    { bytes: 0, words: NOISE },
    { bytes: 8, words: [...REGISTER, ...NOISE.slice(2)] },
    { bytes: 16, words: [...REGISTER, 0, 0, ...NOISE.slice(4)] },
    { bytes: 4, words: [0, ...NOISE.slice(1)] },
  ])('$bytes bytes: truncated or filled up with zeros', ({ bytes, words }) => {
    const { kit } = of();
    kit.words(NOISE);
    expect(info({ data_len: bytes, data_uptr: bytes === 0 ? 0 : SCRATCH })).toBe('ok');
    expect(kit.answer['data_len']).toBe(8n);
    expect(kit.answer['data_type']).toBe(BigInt(MOCK_TYPE.HW_INFO));
    expect(kit.read32(SCRATCH, 8)).toEqual(words);
  });

  it.skipIf(variant.devices === 0)('a type that the device lacks; the width of PASIDs', () => {
    const { kit } = of();
    const TYPE_VALID = 1;
    const other = { flags: TYPE_VALID, data_type: 0xfeed_beee };
    expect(info({ ...other, data_len: 8, data_uptr: SCRATCH })).toBe('EOPNOTSUPP');
    expect(info({ data_len: 0 })).toBe('ok');
    expect(kit.answer['out_max_pasid_log2']).toBe(variant.devices === 1 ? 20n : 0n);
  });
});
