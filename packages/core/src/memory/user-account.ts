/**
 * RLIMIT_MEMLOCK accounting: per user, or per process.
 * @module
 */
import { PAGE_BYTES } from './memory-region.ts';
import type { PhysicalMemory } from './physical-memory.ts';

const ENOMEM = -12;

/** One user of a machine: pages charged to all of the user's processes together. */
export interface UserAccount {
  readonly uid: number;
  /** Pages locked on behalf of the user. */
  lockedPages: number;
}

/** How pinned pages are charged. */
export const ACCOUNT = {
  /** Not at all (the mapper had CAP_IPC_LOCK). */
  NONE: 0,
  /** To the user (`IOMMU_OPTION_RLIMIT_MODE` 0). */
  USER: 1,
  /** To the process (`IOMMU_OPTION_RLIMIT_MODE` 1, or a VFIO container). */
  MM: 2,
} as const;

/** One of {@link ACCOUNT}. */
export type AccountMode = (typeof ACCOUNT)[keyof typeof ACCOUNT];

/** Whose limit a charge counts against. */
interface Charged {
  readonly rlimitMemlockBytes: number;
  pinnedPages: number;
  lockedPages: number;
}

/**
 * Charge pages that were just pinned, or take a charge back.
 *
 * @param pages to add; negative to take back (always succeeds)
 * @returns 0, or -12 (ENOMEM) over RLIMIT_MEMLOCK with nothing charged
 * @linux drivers/iommu/iommufd/pages.c do_update_pinned
 */
export const chargePinned = (
  process: Charged,
  user: UserAccount,
  mode: AccountMode,
  pages: number,
): number => {
  const account = mode === ACCOUNT.USER ? user : mode === ACCOUNT.MM ? process : undefined;
  if (account) {
    const limit = Math.floor(process.rlimitMemlockBytes / PAGE_BYTES);
    if (pages > 0 && account.lockedPages + pages > limit) return ENOMEM;
    account.lockedPages += pages;
  }
  process.pinnedPages += pages;
  return 0;
};

/** The users of one machine. */
export class MachineUsers {
  private readonly accounts = new Map<number, UserAccount>();

  /** The account of a user; made when first asked for. */
  account(uid: number): UserAccount {
    let account = this.accounts.get(uid);
    if (!account) {
      account = { uid, lockedPages: 0 };
      this.accounts.set(uid, account);
    }
    return account;
  }

  /** Every account that is not empty, by uid. */
  save(): { uid: number; lockedPages: number }[] {
    return [...this.accounts.values()]
      .filter(({ lockedPages }) => lockedPages !== 0)
      .map(({ uid, lockedPages }) => ({ uid, lockedPages }))
      .sort((a, b) => a.uid - b.uid);
  }

  /** Replace all counts. */
  load(users: readonly { readonly uid: number; readonly lockedPages: number }[]): void {
    for (const account of this.accounts.values()) account.lockedPages = 0;
    for (const { uid, lockedPages } of users) this.account(uid).lockedPages = lockedPages;
  }
}

const USERS = new WeakMap<PhysicalMemory, MachineUsers>();

/** The users of the machine that has this memory. */
export const usersOf = (memory: PhysicalMemory): MachineUsers => {
  let users = USERS.get(memory);
  if (!users) {
    users = new MachineUsers();
    USERS.set(memory, users);
  }
  return users;
};
