/**
 * `IOMMU_IOAS_CHANGE_PROCESS`: move the charges of file mappings to another process, as after a
 * live update of a VMM.
 * @linux drivers/iommu/iommufd/ioas.c iommufd_ioas_change_process
 * @module
 */
import { refuse } from '../errors.ts';
import { ACCOUNT, type AccountMode, chargePinned, type Process } from '../memory/index.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { IoptPages } from './pages.ts';

/**
 * Charge the pages of all mappings to `process` from now on.
 *
 * @param iopts every address space of the context
 * @throws {IommuError} EINVAL when one maps user memory; ENOMEM over the limit of `process`.
 * Nothing has changed then.
 */
export const changeProcess = (
  iopts: Iterable<IoPagetable>,
  process: Process,
  op = 'IOMMU_IOAS_CHANGE_PROCESS',
): void => {
  const all = new Set<IoptPages>();
  for (const { areas } of iopts) {
    const { tree } = areas;
    for (let more = tree.seek(0, 0); more; more = tree.advance()) {
      const pages = areas.pages(tree.id);
      if (!pages.file || pages.dmabuf) {
        throw refuse('EINVAL', op, 'user-memory-mapped', 'user memory cannot change its process', {
          range: { start: areas.start, last: areas.last },
          accepted: 'IOASes that map files only (IOMMU_IOAS_MAP_FILE)',
        });
      }
      all.add(pages);
    }
  }
  const moving = [...all].filter((pages) => needsMove(pages, process));
  charge(op, moving, process);
  for (const pages of moving) chargePinned(pages.process, pages.user, pages.mode, -pages.charged);
  // Also pages charged to nobody change hands: their unpin counts against the new process.
  for (const pages of all) {
    pages.process = process;
    pages.user = process.user;
  }
};

/** The count of pages charged to nobody (CAP_IPC_LOCK) stays where it is. */
const needsMove = (pages: IoptPages, process: Process): boolean => {
  if (pages.mode === ACCOUNT.NONE) return false;
  if (pages.mode === ACCOUNT.MM) return pages.process !== process;
  return pages.user !== process.user || pages.process !== process;
};

const charge = (op: string, moving: Iterable<IoptPages>, process: Process): void => {
  const totals = new Map<AccountMode, number>();
  for (const { mode, charged } of moving) totals.set(mode, (totals.get(mode) ?? 0) + charged);
  const done: [AccountMode, number][] = [];
  for (const [mode, pages] of totals) {
    if (chargePinned(process, process.user, mode, pages) === 0) {
      done.push([mode, pages]);
      continue;
    }
    for (const [chargedMode, n] of done) chargePinned(process, process.user, chargedMode, -n);
    throw refuse('ENOMEM', op, 'memlock', `${pages} pages are above RLIMIT_MEMLOCK`, {
      value: pages * 4096,
      accepted: `at most ${process.rlimitMemlockBytes} bytes locked, or CAP_IPC_LOCK when mapping`,
    });
  }
};
