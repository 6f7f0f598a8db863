/**
 * A VMM of 2020 gives its guest two stages of translation through VFIO's TYPE1_NESTING, and one of
 * today does the same through iommufd.
 */
import { HWPT_ALLOC, HWPT_DATA, IOAS_MAP, openIommufd } from '@iommukit/core';
import { encodeHwptVtdS1, encodeHwptVtdS1Invalidate } from '@iommukit/driver-vtd';
import { openVfioContainer, openVfioGroup, type1Nesting } from '@iommukit/vfio-compat';
import { GUEST, Platform } from './platform.ts';
import {
  bindPgtbl,
  cacheInvalidate,
  capability,
  infoRequest,
  mapDma,
  pasidAlloc,
  unbindPgtbl,
  VFIO,
} from './structs.ts';

/** Takes lines of the report. */
export type Print = (line: string) => void;

/** The guest's first-stage table maps this address ... */
const GVA = 0x7f00_0000_1000;
/** ... from this table on, four levels, ... */
const TABLE = { ROOT: 0x20000, LEAF: 0x23008 } as const;
/** ... to the first of these pages. */
const PAGE = { A: 0x9000, B: 0xc000 } as const;

/** A guest that has two pages and a table for one of its processes. */
const bootGuest = (platform: Platform): void => {
  platform.writeText(PAGE.A, 'page A');
  platform.writeText(PAGE.B, 'page B');
  platform.writeEntry(0x207f0, 0x21000);
  platform.writeEntry(0x21000, 0x22000);
  platform.writeEntry(0x22000, 0x23000);
  platform.writeEntry(TABLE.LEAF, PAGE.A);
};

/** Container, group, IOMMU type 6: what is mapped from now on is the second stage. */
const openNesting = (platform: Platform, print: Print) => {
  const { machine, vmm, device } = platform;
  const drivers = [type1Nesting({ dialect: 'liu-v7' })];
  const container = openVfioContainer(vmm, machine, { drivers });
  const group = openVfioGroup(vmm, machine, device.group);
  const fd = platform.passed(new Uint8Array(Uint32Array.of(container.fd).buffer));
  const type = VFIO.TYPE1_NESTING_IOMMU;
  print(`  SET_CONTAINER: ${group.ioctl(VFIO.GROUP_SET_CONTAINER, fd)}`);
  print(`  CHECK_EXTENSION 6: ${container.ioctl(VFIO.CHECK_EXTENSION, type)}`);
  print(`  SET_IOMMU 6: ${container.ioctl(VFIO.SET_IOMMU, type)}`);
  const call = (nr: number, bytes: Uint8Array) => container.ioctl(nr, platform.passed(bytes));
  call(VFIO.IOMMU_GET_INFO, infoRequest());
  const nesting = capability(platform.answered(512), 3);
  const [format, features] = [nesting?.getUint32(16, true), nesting?.getUint32(20, true)];
  print(`  capability 3: format ${format}, features ${features}`);
  return { container, group, call };
};

/** The posted interface, by raw calls. */
export const legacyVmm = (print: Print): void => {
  const platform = new Platform();
  bootGuest(platform);
  const read = (pasid?: number) => platform.deviceReads(pasid ? GVA : PAGE.A, pasid);

  print('Open a container for TYPE1_NESTING');
  const { container, group, call } = openNesting(platform, print);

  print('Map guest RAM: the second stage');
  print(`  MAP_DMA: ${call(VFIO.IOMMU_MAP_DMA, mapDma(GUEST.HVA, 0, GUEST.BYTES))}`);
  print(`  device at GPA 0x9000: ${read()}`);

  print("Bind the guest's table: the first stage of a PASID");
  const pasid = call(VFIO.IOMMU_PASID_REQUEST, pasidAlloc(1, 0xfffff));
  print(`  PASID_REQUEST: ${pasid}`);
  print(`  device at GVA 0x7f0000001000: ${read(pasid)}`);
  const bind = () => call(VFIO.IOMMU_NESTING_OP, bindPgtbl(TABLE.ROOT, pasid));
  print(`  BIND_PGTBL: ${bind()}`);
  print(`  device at GVA 0x7f0000001000: ${read(pasid)}`);
  print(`  BIND_PGTBL again: ${bind()}`);
  print(`  ${container.lastRefusal?.message}`);

  print('The guest points the page elsewhere');
  platform.writeEntry(TABLE.LEAF, PAGE.B);
  print(`  device before the invalidation: ${read(pasid)}`);
  print(`  CACHE_INVLD: ${call(VFIO.IOMMU_NESTING_OP, cacheInvalidate(pasid, GVA))}`);
  print(`  device after it: ${read(pasid)}`);

  print('Take it all back');
  print(`  UNBIND_PGTBL: ${call(VFIO.IOMMU_NESTING_OP, unbindPgtbl(TABLE.ROOT, pasid))}`);
  print(`  device at GVA 0x7f0000001000: ${read(pasid)}`);
  group.close();
  container.close();
  print(`  locked memory: ${platform.vmm.vmLckKiB} KiB`);
};

/** The same guest on iommufd: both stages are objects, and the VMM picks the PASID. */
export const nativeVmm = (print: Print): void => {
  const platform = new Platform();
  bootGuest(platform);
  const iommufd = openIommufd(platform.vmm, platform.machine);
  const devId = iommufd.bindDevice(platform.device);

  print('Second stage: a nest parent');
  const { outIoasId: ioasId } = iommufd.ioasAlloc();
  const flags = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID;
  const { outHwptId: parentId } = iommufd.hwptAlloc({ devId, ptId: ioasId, flags });
  const ram = { userVa: GUEST.HVA, iova: 0, length: GUEST.BYTES };
  const rights = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
  iommufd.ioasMap({ ioasId, flags: rights, ...ram });
  iommufd.deviceAttach(devId, parentId);
  print(`  device at GPA 0x9000: ${platform.deviceReads(PAGE.A)}`);

  print("First stage: a nested HWPT over the guest's table, for PASID 1");
  const { outHwptId: hwptId } = iommufd.hwptAlloc({
    devId,
    ptId: parentId,
    flags: HWPT_ALLOC.PASID,
    dataType: HWPT_DATA.VTD_S1,
    data: encodeHwptVtdS1({ pgtblAddr: TABLE.ROOT, addrWidth: 48 }),
  });
  iommufd.deviceAttach(devId, hwptId, 1);
  print(`  device at GVA 0x7f0000001000: ${platform.deviceReads(GVA, 1)}`);
  platform.writeEntry(TABLE.LEAF, PAGE.B);
  const data = encodeHwptVtdS1Invalidate([{ addr: GVA, npages: 1 }]);
  iommufd.hwptInvalidate({ hwptId, dataType: 0, entryLen: data.length, entryNum: 1, data });
  print(`  changed and invalidated: ${platform.deviceReads(GVA, 1)}`);
  iommufd.deviceDetach(devId, 1);
  print(`  detached: ${platform.deviceReads(GVA, 1)}`);
  iommufd.close();
};
