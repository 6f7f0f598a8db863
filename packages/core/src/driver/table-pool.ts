import { refuse } from '../errors.ts';

/**
 * Make something in a page-table pool. A full pool throws a plain `Error`; anything else is no answer
 * to the caller's request, and passes.
 *
 * @throws {IommuError} ENOMEM when the pool is full
 */
export const inPool = <T>(make: () => T): T => {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof Error) || cause.name !== 'Error') throw cause;
    const message = `no page table could be made: ${cause.message}`;
    throw refuse('ENOMEM', 'IOMMU_HWPT_ALLOC', 'table-pool', message, {
      accepted: 'a pool with room for one more table (option maxTableBytes)',
    });
  }
};
