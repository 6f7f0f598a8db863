/**
 * IOMMU_TEST_CMD as an extension of an iommufd context: what the kernel offers in test builds.
 *
 * @linux drivers/iommu/iommufd/selftest.c iommufd_test
 * @module
 */
import type { IoctlExtension } from '@iommukit/core';
import {
  accessPages,
  accessReadWrite,
  accessReplaceIoas,
  createAccess,
  destroyAccessPages,
  prepareCopy,
} from './access.ts';
import {
  addReserved,
  checkDeviceCache,
  checkIotlb,
  checkMap,
  checkRefs,
  setDirty,
  triggerIopf,
  triggerVevent,
} from './checks.ts';
import { IOMMU_TEST_SPEC, TEST_OP, TestCommand } from './command.ts';
import {
  mockDomain,
  mockDomainReplace,
  pasidChange,
  pasidCheckHwpt,
  pasidDetach,
} from './devices.ts';
import { dmabufGet, dmabufRevoke } from './dmabuf.ts';
import { IOMMU_TEST_SNAPSHOT } from './snapshot.ts';

type Operation = (command: TestCommand) => void;

/** Smallest limit that can hold one element of a batch. */
const MIN_MEMORY_LIMIT = 12;

/** SET_TEMP_MEMORY_LIMIT: batches here need no temporary memory, so only the value is checked. */
const setMemoryLimit: Operation = (command) => {
  const limit = command.u32(16);
  if (limit < MIN_MEMORY_LIMIT) {
    throw command.refuse('EINVAL', 'memory-limit', `at least ${MIN_MEMORY_LIMIT}`, limit);
  }
};

/** Operations that write the struct back. */
const ANSWERING: Readonly<Record<number, Operation>> = {
  [TEST_OP.MOCK_DOMAIN]: mockDomain,
  [TEST_OP.MOCK_DOMAIN_FLAGS]: mockDomain,
  [TEST_OP.MOCK_DOMAIN_REPLACE]: mockDomainReplace,
  [TEST_OP.CREATE_ACCESS]: createAccess,
  [TEST_OP.ACCESS_PAGES]: accessPages,
  [TEST_OP.DIRTY]: setDirty,
  [TEST_OP.PASID_ATTACH]: (command) => pasidChange(command, 'attach'),
  [TEST_OP.PASID_REPLACE]: (command) => pasidChange(command, 'replace'),
};

/** Operations that only do something. */
const SILENT: Readonly<Record<number, Operation>> = {
  [TEST_OP.ADD_RESERVED]: addReserved,
  [TEST_OP.MD_CHECK_MAP]: checkMap,
  [TEST_OP.MD_CHECK_REFS]: checkRefs,
  [TEST_OP.DESTROY_ACCESS_PAGES]: destroyAccessPages,
  [TEST_OP.ACCESS_RW]: accessReadWrite,
  [TEST_OP.SET_TEMP_MEMORY_LIMIT]: setMemoryLimit,
  [TEST_OP.ACCESS_REPLACE_IOAS]: accessReplaceIoas,
  [TEST_OP.MD_CHECK_IOTLB]: checkIotlb,
  [TEST_OP.TRIGGER_IOPF]: triggerIopf,
  [TEST_OP.DEV_CHECK_CACHE]: checkDeviceCache,
  [TEST_OP.TRIGGER_VEVENT]: triggerVevent,
  [TEST_OP.PASID_DETACH]: pasidDetach,
  [TEST_OP.PASID_CHECK_HWPT]: pasidCheckHwpt,
  [TEST_OP.DMABUF_GET]: dmabufGet,
  [TEST_OP.DMABUF_REVOKE]: dmabufRevoke,
};

/** The test ioctl 0x3ba0: `openIommufd(process, machine, { extensions: [iommuTest()] })`. */
export const iommuTest = (): IoctlExtension => ({
  name: 'IOMMU_TEST_CMD',
  spec: IOMMU_TEST_SPEC,
  snapshot: IOMMU_TEST_SNAPSHOT,
  prepareCopy,
  serve: (call, bytes) => {
    const command = new TestCommand(call, bytes);
    const answering = ANSWERING[command.op];
    const run = answering ?? SILENT[command.op];
    call.answers = answering !== undefined;
    if (!run) {
      throw command.refuse('EOPNOTSUPP', 'test-op', 'no such test operation', command.op);
    }
    run(command);
  },
});
