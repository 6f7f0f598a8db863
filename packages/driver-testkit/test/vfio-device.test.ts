/** VFIO device ioctls of an emulated endpoint: info, regions, interrupts, reset. */
import {
  createMachine,
  createProcess,
  HWPT_ALLOC,
  MAP_FLAG,
  openIommufd,
  openVfioCdev,
  sysIoctl,
  VFIO_IOCTL,
  VfioDevice,
  type VfioDeviceOptions,
} from '@iommukit/core';
import { mockDriver } from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import { describe, expect, it } from 'vitest';
import { FIXED_RW, refusalOf } from './machine.ts';

const HVA = 0x4000_0000;
/** Where the ioctls' structs are. */
const ARG = HVA + 0x4000;
/** The last bytes of the mapping. */
const END = HVA + 16 * 4096;
const IOVA = 0x100_0000;
const EFAULT = -14;
const EINVAL = -22;
const ENOTTY = -25;

const setup = (options: VfioDeviceOptions = {}, bind = true, driver = vtd()) => {
  const machine = createMachine({ ramBytes: 2 ** 24 });
  const nic = machine.addEndpoint({ rid: '00:04.0', ats: true, pri: true });
  machine.addUnit(driver);
  const process = createProcess(machine);
  const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  process.mmap({ addr: HVA, length: 16 * 4096, flags });
  const iommufd = openIommufd(process, machine);
  const device = new VfioDevice(nic, options);
  const fd = openVfioCdev(process, device);
  /** Call with u32 words at an address; the answer, or a negative errno. */
  const call = (request: number, words: readonly number[], at = ARG, bytes = 4 * words.length) => {
    const input = new Uint8Array(Uint32Array.from(words).buffer);
    process.poke(at, input.subarray(0, Math.max(0, Math.min(input.length, END - at))));
    const rc = sysIoctl(process, fd, request, at);
    return rc < 0 ? rc : new DataView((process.peek(at, bytes) as Uint8Array).slice().buffer);
  };
  const words = (request: number, input: readonly number[], count = input.length) => {
    const answer = call(request, input, ARG, 4 * count);
    if (typeof answer === 'number') return answer;
    return Array.from({ length: count }, (_, i) => answer.getUint32(4 * i, true));
  };
  if (bind) {
    const bound = call(VFIO_IOCTL.DEVICE_BIND_IOMMUFD, [24, 0, iommufd.fd, 0, 0, 0]);
    expect(typeof bound).toBe('object');
  }
  return { machine, nic, process, iommufd, device, call, words };
};

const { DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO, DEVICE_RESET } = VFIO_IOCTL;
const CAP = { id: 5, version: 1, data: Uint8Array.of(7, 0, 0, 0) };
const CAP2 = { id: 9, version: 2, data: new Uint8Array(12).fill(0xab) };

describe('VFIO_DEVICE_GET_INFO', () => {
  it.each([
    ['plain PCI', {}, [24, 2, 9, 5, 0, 0]],
    ['with reset', { flags: 3 }, [24, 3, 9, 5, 0, 0]],
    [
      'a region behind those of PCI',
      { regions: [{ index: 9, sizeBytes: 1 }] },
      [24, 2, 10, 5, 0, 0],
    ],
    ['counts given', { numRegions: 2, numIrqs: 1 }, [24, 2, 2, 1, 0, 0]],
  ])('%s', (_, options, expected) => {
    expect(setup(options).words(DEVICE_GET_INFO, [24, 9, 9, 9, 9, 9])).toEqual(expected);
  });

  it('the first 16 bytes are enough, one less is EINVAL; what is behind them stays', () => {
    const { words } = setup();
    expect(words(DEVICE_GET_INFO, [16, 0, 0, 0, 77, 78])).toEqual([16, 2, 9, 5, 77, 78]);
    expect(words(DEVICE_GET_INFO, [15, 0, 0, 0])).toBe(EINVAL);
  });

  it('capabilities: first how much room they need, then the chain', () => {
    const { words } = setup({ capabilities: [CAP, CAP2] });
    const needed = 24 + 16 + 24;
    expect(words(DEVICE_GET_INFO, [24, 0, 0, 0, 5, 5])).toEqual([needed, 130, 9, 5, 0, 0]);
    expect(words(DEVICE_GET_INFO, [needed - 1, 0, 0, 0, 5, 5])).toEqual([needed, 130, 9, 5, 0, 0]);
    const all = [needed, ...Array.from({ length: 15 }, () => 0xffff_ffff)];
    expect(words(DEVICE_GET_INFO, all)).toEqual(
      [needed, 130, 9, 5, 24, 0].concat(
        [0x1_0005, 40, 7, 0],
        [0x2_0009, 0, 0xabab_abab, 0xabab_abab, 0xabab_abab, 0],
      ),
    );
  });
});

describe('VFIO_DEVICE_GET_REGION_INFO', () => {
  const regions = [
    { index: 0, sizeBytes: 0x4000, flags: 7 },
    { index: 2, sizeBytes: 2 ** 36, capabilities: [CAP] },
    { index: 7, sizeBytes: 4096 },
  ];
  const region = (index: number, argsz = 32) => [argsz, 9, index, 9, 9, 9, 9, 9];

  // Without capabilities the caller's cap_offset comes back as it was.
  it.each([
    [0, [32, 7, 0, 9, 0x4000, 0, 0, 0]],
    [1, [32, 0, 1, 9, 0, 0, 0, 0x100]],
    [6, [32, 0, 6, 9, 0, 0, 0, 0x600]],
    [7, [32, 3, 7, 9, 4096, 0, 0, 0x700]],
    [2, [48, 11, 2, 0, 0, 16, 0, 0x200]],
  ])('region %i', (index, expected) => {
    expect(setup({ regions }).words(DEVICE_GET_REGION_INFO, region(index))).toEqual(expected);
  });

  it('capabilities behind the struct when there is room', () => {
    const { words } = setup({ regions });
    const answer = words(DEVICE_GET_REGION_INFO, [...region(2, 48), 1, 1, 1, 1]);
    expect(answer).toEqual([48, 11, 2, 32, 0, 16, 0, 0x200, 0x1_0005, 0, 7, 0]);
  });

  it.each([
    ['argsz 31', region(0, 31)],
    ['no VGA', region(8)],
    ['behind the last', region(9)],
    ['far behind', region(0xffff_ffff)],
  ])('%s is EINVAL', (_, input) => {
    expect(setup({ regions }).words(DEVICE_GET_REGION_INFO, input)).toBe(EINVAL);
  });
});

describe('VFIO_DEVICE_GET_IRQ_INFO', () => {
  const irqs = [
    { index: 0, count: 1 },
    { index: 1, count: 8 },
    { index: 2, count: 64, flags: 1 },
  ];

  it.each([
    [0, [16, 7, 0, 1]],
    [1, [16, 9, 1, 8]],
    [2, [16, 1, 2, 64]],
    [4, [16, 9, 4, 1]],
  ])('interrupts %i', (index, expected) => {
    expect(setup({ irqs }).words(DEVICE_GET_IRQ_INFO, [16, 9, index, 9])).toEqual(expected);
  });

  it.each([
    ['argsz 15', [15, 0, 0, 0]],
    ['no ERR', [16, 0, 3, 0]],
    ['behind the last', [16, 0, 5, 0]],
  ])('%s is EINVAL', (_, input) => {
    expect(setup({ irqs }).words(DEVICE_GET_IRQ_INFO, input)).toBe(EINVAL);
  });

  it('a device without interrupts has counts of 0', () => {
    const { words } = setup();
    expect(words(DEVICE_GET_IRQ_INFO, [16, 0, 1, 5])).toEqual([16, 9, 1, 0]);
  });
});

describe('any info ioctl', () => {
  const all = [DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO];

  it.each(all)('0x%x: EFAULT outside memory and for a chain that runs out of it', (request) => {
    const options = {
      capabilities: [CAP],
      regions: [{ index: 0, sizeBytes: 1, capabilities: [CAP] }],
    };
    const { call } = setup(options);
    expect(call(request, [64], END)).toBe(EFAULT);
    expect(call(request, [64, 0, 0], END - 12)).toBe(EFAULT);
    if (request === DEVICE_GET_IRQ_INFO) return;
    const size = request === DEVICE_GET_INFO ? 24 : 32;
    expect(call(request, [64, 0, 0, 0, 0, 0, 0, 0].slice(0, size / 4), END - size)).toBe(EFAULT);
  });

  it.each([...all, DEVICE_RESET])('0x%x before BIND is EINVAL', (request) => {
    const { words } = setup({ flags: 3 }, false);
    expect(words(request, [32, 0, 0, 0, 0, 0, 0, 0])).toBe(EINVAL);
  });

  it('the program may answer in place of core, but for GET_INFO; others are ENOTTY', () => {
    const asked: number[] = [];
    const options = {
      ioctl: (_process: unknown, request: number) => {
        asked.push(request);
        return request === DEVICE_GET_REGION_INFO ? 3 : undefined;
      },
    };
    const { words } = setup(options);
    expect(words(DEVICE_GET_REGION_INFO, [31], 0)).toEqual([]);
    expect(words(DEVICE_GET_IRQ_INFO, [16, 0, 0, 0])).toEqual([16, 7, 0, 0]);
    expect(words(0x3b6e, [20, 0, 0, 0, 0])).toBe(ENOTTY);
    expect(words(DEVICE_GET_INFO, [16, 0, 0, 0])).toEqual([16, 2, 9, 5]);
    expect(asked).toEqual([DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO, 0x3b6e]);
  });
});

describe('VFIO_DEVICE_RESET', () => {
  const attached = (flags: number, driver = vtd()) => {
    let resets = 0;
    const made = setup({ flags, onReset: () => resets++ }, true, driver);
    const { iommufd, device, process } = made;
    const { outIoasId: ioasId } = iommufd.ioasAlloc();
    iommufd.ioasMap({ ioasId, flags: FIXED_RW, userVa: HVA, length: 4096, iova: IOVA });
    const faults = iommufd.faultQueueAlloc();
    const { outHwptId } = iommufd.hwptAlloc({
      devId: device.bound?.id ?? 0,
      ptId: ioasId,
      flags: HWPT_ALLOC.FAULT_ID_VALID,
      faultId: faults.outFaultId,
    });
    device.attach('test', outHwptId);
    process.poke(HVA, Uint8Array.of(42));
    return { ...made, faults, resets: () => resets, hwptId: outHwptId };
  };

  it('empties the device TLB, forgets page requests, keeps attachments', () => {
    const { nic, words, faults, resets, device, hwptId, iommufd } = attached(3);
    const byte = new Uint8Array(1);
    expect([nic.atsRead(IOVA, byte), byte[0]]).toEqual([1, 42]);
    const answers: number[] = [];
    nic.requestPages([{ iova: 0x9000_0000, write: true }], {}, (code) => answers.push(code));
    const [fault] = faults.queue.readFaults(1);
    expect(fault).toBeDefined();
    expect(words(DEVICE_RESET, [])).toEqual([]);
    expect([resets(), device.isOpen]).toEqual([1, true]);
    expect(iommufd.find('test', hwptId, 'HWPT_PAGING').users).toBe(1);
    const { misses } = nic.deviceTlb.stats;
    expect([nic.atsRead(IOVA, byte), nic.deviceTlb.stats.misses]).toEqual([1, misses + 1]);
    // The old answer reaches nobody; a request made after the reset gets its own.
    const late: number[] = [];
    nic.requestPages([{ iova: 0x9000_0000, write: true }], {}, (code) => late.push(code));
    faults.queue.respond(fault?.cookie ?? 0, 0);
    expect([answers, late]).toEqual([[], []]);
    const [next] = faults.queue.readFaults(1);
    faults.queue.respond(next?.cookie ?? 0, 0);
    expect([answers, late]).toEqual([[], [0]]);
  });

  it('what came of a group whose last request is missing is dropped', () => {
    // The mock hands over each request at once; real units keep them in their queue until the last.
    const { nic, words, faults } = attached(3, mockDriver());
    const send = (addressPfn: number, last: boolean) =>
      nic.agent?.pageRequest?.({
        rid: nic.rid,
        pasid: -1,
        addressPfn,
        read: true,
        write: false,
        exec: false,
        priv: false,
        last,
        prgi: 3,
      });
    send(0x90000, false);
    expect(words(DEVICE_RESET, [])).toEqual([]);
    send(0x90001, true);
    expect(faults.queue.readFaults().map(({ addr }) => addr)).toEqual([0x9000_1000n]);
  });

  it('is EINVAL for a device whose flags do not have it; nothing is touched', () => {
    const { nic, words, resets, device } = attached(2);
    nic.atsRead(IOVA, new Uint8Array(1));
    const { misses } = nic.deviceTlb.stats;
    expect(words(DEVICE_RESET, [])).toBe(EINVAL);
    expect(refusalOf(() => device.reset())).toBe('EINVAL vfio-reset');
    nic.atsRead(IOVA, new Uint8Array(1));
    expect([resets(), nic.deviceTlb.stats.misses]).toEqual([0, misses]);
  });
});
