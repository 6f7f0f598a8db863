/**
 * Ground of the kernel's tests of a bare iommufd and of a change of process.
 *
 * @linux tools/testing/selftests/iommu/iommufd.c fixtures iommufd, change_process
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GOLDEN_STRUCTS } from '../src/golden/structs.ts';
import { APERTURE, BUFFER, PAGE, RawKit } from './raw-kit.ts';

let kit: RawKit;
beforeEach(() => {
  kit = new RawKit();
});
afterEach(() => kit.close());

const OPTION_RLIMIT_MODE = 0;
const OPTION_HUGE_PAGES = 1;
const SET = 0;
const GET = 1;
const option = (op: number, id: number, value = 0) =>
  kit.rc('OPTION', { op, option_id: id, val64: value });

describe('iommufd: commands', () => {
  it('simple_close: nothing was made', () => {});

  it('cmd_fail: id 0, no struct, an unknown number', () => {
    expect(kit.destroy(0n)).toBe('ENOENT');
    expect(kit.plain(0x3b80, 0)).toBe('EFAULT');
    expect(kit.plain(0x3b7f, BUFFER)).toBe('ENOTTY');
  });

  /** Bytes up to the end of the first version, where it is not the whole struct. */
  const LENGTHS: readonly (readonly [name: string, minimum: number])[] = [
    ['DESTROY', 8],
    ['GET_HW_INFO', 28],
    ['HWPT_ALLOC', 24],
    ['HWPT_INVALIDATE', 32],
    ['FAULT_QUEUE_ALLOC', 16],
    ['IOAS_ALLOC', 12],
    ['IOAS_IOVA_RANGES', 32],
    ['IOAS_ALLOW_IOVAS', 24],
    ['IOAS_MAP', 40],
    ['IOAS_COPY', 40],
    ['IOAS_UNMAP', 24],
    ['OPTION', 24],
    ['VFIO_IOAS', 12],
    ['IOAS_MAP_FILE', 40],
    ['VIOMMU_ALLOC', 24],
    ['VDEVICE_ALLOC', 24],
    ['IOAS_CHANGE_PROCESS', 8],
    ['VEVENTQ_ALLOC', 28],
    ['HW_QUEUE_ALLOC', 40],
    ['HWPT_SET_DIRTY_TRACKING', 16],
    ['HWPT_GET_DIRTY_BITMAP', 48],
  ];
  it.each(LENGTHS)('cmd_length: %s', (name, minimum) => {
    const whole = GOLDEN_STRUCTS[name]?.size ?? 0;
    expect(kit.rc(name, {}, { size: minimum - 1, tail: [255] })).toBe('EINVAL');
    expect(kit.rc(name, {}, { size: whole + 1, tail: [255] })).toBe('E2BIG');
    const exact = kit.rc(name);
    expect(exact).not.toBe('E2BIG');
    expect(kit.rc(name, {}, { size: whole + 1, tail: [0] })).toBe(exact);
  });

  it('cmd_ex_fail: a longer struct of a later kernel', () => {
    const zeros = [0, 0, 0, 0, 0, 0, 0, 0];
    expect(kit.rc('DESTROY', {}, { size: 16, tail: zeros })).toBe('ENOENT');
    expect(kit.rc('DESTROY', {}, { size: 16, tail: [1, ...zeros.slice(1)] })).toBe('E2BIG');
    expect(kit.rc('DESTROY')).toBe('ENOENT');
    expect(kit.rc('DESTROY', {}, { size: 7 })).toBe('EINVAL');
  });

  it('global_options: how pages are charged', () => {
    expect(option(GET, OPTION_RLIMIT_MODE, 1)).toBe('ok');
    expect(kit.answer['val64']).toBe(0n);
    expect(option(SET, OPTION_RLIMIT_MODE, 1)).toBe('ok');
    expect(option(SET, OPTION_RLIMIT_MODE, 2)).toBe('EINVAL');
    expect(option(GET, OPTION_RLIMIT_MODE, 7)).toBe('ok');
    expect(kit.answer['val64']).toBe(1n);
    expect(option(SET, OPTION_RLIMIT_MODE, 0)).toBe('ok');
    expect(option(GET, OPTION_HUGE_PAGES)).toBe('ENOENT');
    expect(option(SET, OPTION_HUGE_PAGES)).toBe('ENOENT');
  });
});

describe('iommufd: the old interface without an IOAS', () => {
  const TYPE1 = 1;
  const TYPE1V2 = 3;

  it('simple_ioctls: version 0; type 1 version 2 is there', () => {
    expect(kit.plain(0x3b64, 0)).toBe('ok');
    expect(kit.plain(0x3b65, TYPE1V2)).toBe('ok');
  });

  it('unmap_cmd, map_cmd: size, flags, then the missing IOAS', () => {
    const range = { iova: APERTURE, size_: PAGE };
    const map = { ...range, vaddr: BUFFER };
    expect(kit.rc('VFIO_IOMMU_UNMAP_DMA', range, { size: 1 })).toBe('EINVAL');
    expect(kit.rc('VFIO_IOMMU_UNMAP_DMA', { ...range, flags: 2 ** 31 })).toBe('EINVAL');
    expect(kit.rc('VFIO_IOMMU_UNMAP_DMA', range)).toBe('ENODEV');
    expect(kit.rc('VFIO_IOMMU_MAP_DMA', map, { size: 1 })).toBe('EINVAL');
    expect(kit.rc('VFIO_IOMMU_MAP_DMA', { ...map, flags: 2 ** 31 })).toBe('EINVAL');
    expect(kit.rc('VFIO_IOMMU_MAP_DMA', { ...map, flags: 3 })).toBe('ENODEV');
  });

  it('info_cmd, set_iommu_cmd: no device, no answer', () => {
    expect(kit.rc('VFIO_IOMMU_GET_INFO', {}, { size: 1 })).toBe('EINVAL');
    expect(kit.rc('VFIO_IOMMU_GET_INFO')).toBe('ENODEV');
    expect(kit.plain(0x3b66, TYPE1V2)).toBe('ENODEV');
    expect(kit.plain(0x3b66, TYPE1)).toBe('ENODEV');
  });

  it('vfio_ioas: nothing, a wrong id, set, read back, cleared', () => {
    const [get, set, clear] = [0, 1, 2];
    expect(kit.rc('VFIO_IOAS', { op: get })).toBe('ENODEV');
    expect(kit.rc('VFIO_IOAS', { op: set })).toBe('ENOENT');
    const ioas = kit.ioas();
    expect(kit.rc('VFIO_IOAS', { op: set, ioas_id: ioas })).toBe('ok');
    expect(kit.make('VFIO_IOAS', 'ioas_id', { op: get })).toBe(ioas);
    expect(kit.rc('VFIO_IOAS', { op: clear })).toBe('ok');
    expect(kit.rc('VFIO_IOAS', { op: get })).toBe('ENODEV');
  });
});

describe.each(['none', 'user', 'mm'] as const)('change_process.basic: charged to %s', (mode) => {
  const READ_WRITE = 6;
  const counts = (process = kit.process) => ({
    pinned: process.vmPinKiB,
    locked: process.vmLckKiB,
  });

  it('only files can move; what was charged moves with them', () => {
    expect(option(SET, OPTION_RLIMIT_MODE, mode === 'mm' ? 1 : 0)).toBe('ok');
    if (mode !== 'none') kit.process.capabilities = new Set();
    const ioas = kit.ioas();
    kit.mock(ioas);
    const anonymous = kit.map(ioas, BUFFER, PAGE);
    expect(kit.rc('IOAS_CHANGE_PROCESS')).toBe('EINVAL');
    expect(kit.unmap(ioas, anonymous, PAGE)).toBe('ok');

    const file = kit.memfd(16 * PAGE);
    const before = counts();
    const map = { ioas_id: ioas, fd: file, start: 0, length: 16 * PAGE, flags: READ_WRITE };
    expect(kit.rc('IOAS_MAP_FILE', map)).toBe('ok');
    const after = counts();
    expect(after.pinned - before.pinned).toBe(64);
    expect(after.locked - before.locked).toBe(mode === 'mm' ? 64 : 0);
    const child = kit.fork();
    const childBefore = counts(child);
    expect(kit.rc('IOAS_CHANGE_PROCESS', {}, { process: child })).toBe('ok');
    // Pages charged to nobody stay where they are.
    expect(counts()).toEqual(mode === 'none' ? after : before);
    const moved = mode === 'none' ? 0 : 64;
    expect(counts(child)).toEqual({
      pinned: childBefore.pinned + moved,
      locked: childBefore.locked + (mode === 'mm' ? moved : 0),
    });
    expect(kit.rc('IOAS_CHANGE_PROCESS')).toBe('ok');
    expect(counts()).toEqual(after);
  });
});
