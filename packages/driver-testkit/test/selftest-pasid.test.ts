/**
 * Ground of the kernel's test of PASIDs.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixture iommufd_device_pasid
 */
import { HWPT_ALLOC } from '@iommukit/core';
import { MOCK_DEVICE_FLAG, MOCK_FAILING_PASID, MOCK_TYPE } from '@iommukit/driver-testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Fields, RawKit } from './raw-kit.ts';
import { roundTripFault } from './selftest-faults.ts';

const { PASID, NEST_PARENT, FAULT_ID_VALID } = HWPT_ALLOC;

describe.each([
  { name: 'no_pasid', has: false },
  { name: 'has_pasid', has: true },
])('iommufd_device_pasid $name', ({ has }) => {
  let kit: RawKit;
  let ioas: bigint;
  let stdev: bigint;
  let dev: bigint;
  let autoHwpt: bigint;

  beforeEach(() => {
    kit = new RawKit();
    ioas = kit.ioas();
    const made = kit.mock(ioas, has ? MOCK_DEVICE_FLAG.PASID : 0);
    ({ stdev, dev } = made);
    autoHwpt = made.hwpt;
  });
  afterEach(() => kit.close());

  const on = (op: string, pasid: number, more: Fields = {}) =>
    kit.rc(`TEST_PASID_${op}`, { id: stdev, pasid, ...more });
  const attach = (pasid: number, pt: bigint) => on('ATTACH', pasid, { pt_id: pt });
  const replace = (pasid: number, pt: bigint) => on('REPLACE', pasid, { pt_id: pt });
  const detach = (pasid: number) => on('DETACH', pasid);
  const isOn = (pasid: number, hwpt: bigint) => on('CHECK_HWPT', pasid, { hwpt_id: hwpt });
  const rid = (pt: bigint) => kit.rc('TEST_MOCK_DOMAIN_REPLACE', { id: stdev, pt_id: pt });
  const alloc = (pt: bigint, fields: Fields): bigint =>
    kit.make('HWPT_ALLOC', 'out_hwpt_id', { dev_id: dev, pt_id: pt, ...fields });
  const nested = (pt: bigint, flags: number, faultId = 0n): bigint => {
    const data = { data_type: MOCK_TYPE.HWPT_DATA, data_len: 8, data_uptr: kit.words([7, 0]) };
    return alloc(pt, { ...data, flags, fault_id: faultId });
  };

  it.skipIf(has)('a device without PASIDs has none to attach', () => {
    const hwpt = alloc(ioas, { flags: PASID });
    expect(rid(hwpt)).toBe('ok');
    expect(attach(100, hwpt)).toBe('EINVAL');
    expect(detach(100)).toBe('ok');
    expect(isOn(100, 0n)).toBe('ok');
  });

  it.runIf(has)('what may stand under a PASID, and under the device with one', () => {
    const hwpt = alloc(ioas, { flags: PASID });
    const other = alloc(ioas, { flags: PASID });
    const parent = alloc(ioas, { flags: NEST_PARENT });
    const pasidParent = alloc(ioas, { flags: NEST_PARENT | PASID });
    // The table of the device itself has to be compatible first.
    expect(attach(100, hwpt)).toBe('EINVAL');
    expect(rid(hwpt)).toBe('ok');
    expect(attach(100, autoHwpt)).toBe('ENOENT');
    expect(attach(100, parent)).toBe('EINVAL');
    expect(attach(100, ioas)).toBe('EINVAL');
    expect(attach(100, nested(parent, 0))).toBe('EINVAL');
    expect(attach(2 ** 20, hwpt)).toBe('EINVAL');
    expect(attach(100, hwpt)).toBe('ok');
    expect(isOn(100, hwpt)).toBe('ok');
    expect(attach(100, hwpt)).toBe('EBUSY');
    expect(attach(100, other)).toBe('EBUSY');
    // No table that is incompatible may come under the device now.
    expect(rid(ioas)).toBe('EINVAL');
    expect(rid(parent)).toBe('EINVAL');
    expect(rid(pasidParent)).toBe('ok');
    expect(rid(nested(pasidParent, PASID))).toBe('ok');
    expect(detach(100)).toBe('ok');
    expect(isOn(100, 0n)).toBe('ok');
    expect(rid(ioas)).toBe('ok');
  });

  it.runIf(has)('replacement: of nothing, by plain and nested ones', () => {
    const hwpt = alloc(ioas, { flags: PASID });
    const parent = alloc(ioas, { flags: NEST_PARENT | PASID });
    const [first, second] = [nested(parent, PASID), nested(parent, PASID)];
    expect(rid(hwpt)).toBe('ok');
    expect(replace(200, parent)).toBe('EINVAL');
    expect(attach(200, parent)).toBe('ok');
    for (const next of [hwpt, first, second, second]) {
      expect(replace(200, next)).toBe('ok');
      expect(isOn(200, next)).toBe('ok');
      expect(kit.destroy(next)).toBe('EBUSY');
    }
    expect(replace(200, ioas)).toBe('EINVAL');
    expect(isOn(200, second)).toBe('ok');
    expect(detach(200)).toBe('ok');
    expect(isOn(200, 0n)).toBe('ok');
    expect(kit.destroy(second)).toBe('ok');
    expect(kit.destroy(first)).toBe('ok');
    expect(kit.destroy(parent)).toBe('ok');
  });

  it.runIf(has)('a failed replacement leaves the old table', () => {
    const hwpt = alloc(ioas, { flags: PASID });
    const parent = alloc(ioas, { flags: NEST_PARENT | PASID });
    expect(rid(hwpt)).toBe('ok');
    expect(attach(MOCK_FAILING_PASID, parent)).toBe('ok');
    expect(replace(MOCK_FAILING_PASID, hwpt)).toBe('ENOMEM');
    expect(isOn(MOCK_FAILING_PASID, parent)).toBe('ok');
    expect(detach(MOCK_FAILING_PASID)).toBe('ok');
    expect(isOn(MOCK_FAILING_PASID, 0n)).toBe('ok');
    expect(kit.destroy(parent)).toBe('ok');
  });

  it.runIf(has)('page faults of a PASID', () => {
    const hwpt = alloc(ioas, { flags: PASID });
    const parent = alloc(ioas, { flags: NEST_PARENT | PASID });
    const queue = kit.ok('FAULT_QUEUE_ALLOC');
    const [faultId, fd] = [queue['out_fault_id'] ?? 0n, Number(queue['out_fault_fd'])];
    const faulting = nested(parent, PASID | FAULT_ID_VALID, faultId);
    expect(rid(hwpt)).toBe('ok');
    expect(attach(2048, faulting)).toBe('ok');
    expect(isOn(2048, faulting)).toBe('ok');
    roundTripFault(kit, dev, fd, 2048);
    expect(replace(2048, parent)).toBe('ok');
    expect(isOn(2048, parent)).toBe('ok');
    expect(detach(2048)).toBe('ok');
    expect(kit.destroy(faulting)).toBe('ok');
    kit.closeFd(fd);
    expect(kit.destroy(faultId)).toBe('ok');
  });
});
