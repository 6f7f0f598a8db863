/**
 * Everything that a call can change, as plain data: two equal fingerprints = nothing happened.
 * Frame numbers are left out, since a page may come back elsewhere; their counts are in.
 */
import {
  Access,
  FaultQueue,
  filesOf,
  HwptNested,
  HwptPaging,
  Ioas,
  IommufdDevice,
  type IommufdObject,
  type IoPagetable,
  type IoptPages,
  PAGE_BYTES,
  PROT,
  Veventq,
  Viommu,
} from '@iommukit/core';
import { MockUnit } from '@iommukit/driver-testkit';
import { IOVA, SECOND_IOVA, type World } from './world.ts';

const PROBED_PAGES = 16;
const PROBES: readonly number[] = [IOVA, SECOND_IOVA, 0x100_0000];
const PROBED_PASIDS = [-1, 3];
const PROBED_DESCRIPTORS = 32;

/** How many users each page has, as steps (page, users from there on). */
const usersOf = (pages: IoptPages): number[][] => {
  const cover = pages['partial']?.['cover'];
  if (cover) return cover['starts'].map((start, i) => [start, cover['levels'][i] ?? 0]);
  return pages['users'] === 0
    ? []
    : [
        [0, pages['users']],
        [pages.count, 0],
      ];
};

/** Pages objects by the order in which they are met: identity matters, names do not exist. */
class PagesNames {
  readonly #names = new Map<IoptPages, number>();

  of(pages: IoptPages): number {
    const known = this.#names.get(pages);
    if (known !== undefined) return known;
    this.#names.set(pages, this.#names.size);
    return this.#names.size - 1;
  }

  describe() {
    return [...this.#names.keys()].map((pages) => ({
      references: pages.references,
      pinned: pages.pinned,
      charged: pages.charged,
      users: usersOf(pages),
      accesses: [...(pages['accesses'] ?? [])].map(([first, counts]) => [first, ...counts].flat()),
      mode: pages.mode,
      uid: pages.user.uid,
      file: pages.file !== undefined,
      range: [pages.basePage, pages.count, pages.writable],
    }));
  }
}

const areasOf = ({ areas }: IoPagetable, names: PagesNames) => {
  const { tree } = areas;
  const found = [];
  for (let more = tree.seek(0, 0); more; more = tree.advance()) {
    const { id } = tree;
    found.push({
      range: [areas.start, areas.last].map(String),
      pages: names.of(areas.pages(id)),
      at: [areas.firstIndex(id), areas.pageOffset(id), areas.prot(id)],
      accesses: [areas.accessCount(id), areas.lockCount(id), areas.preventsAccess(id)],
    });
  }
  return found;
};

const ioptOf = (iopt: IoPagetable, names: PagesNames) => ({
  areas: areasOf(iopt, names),
  count: iopt.areas.count,
  domains: iopt.domains.map(({ label }) => label),
  accesses: iopt.accesses.length,
  dependents: iopt.dependents.length,
  alignment: iopt.iovaAlignment,
  largePages: iopt.largePages,
  allowed: iopt.allowed.all.map(({ start, last }) => [start, last].map(String)),
  reserved: iopt.reserved.all.map(({ start, last, label }) => [start, last, label].map(String)),
});

/** Which of the probed addresses a paging domain translates. */
const mappedIn = ({ domain }: HwptPaging): string =>
  PROBES.map((start) => {
    const perPage = 2 ** (12 - domain.granuleLg2);
    const first = (start / PAGE_BYTES) * perPage;
    const granules = [...Array(PROBED_PAGES * perPage).keys()];
    return granules.map((n) => (domain.iovaToFrame(first + n) < 0 ? '.' : 'x')).join('');
  }).join(' ');

const detailsOf = (object: IommufdObject, names: PagesNames): object => {
  if (object instanceof Ioas) {
    return { iopt: ioptOf(object.iopt, names), hwpts: object.hwpts.map(({ id }) => id) };
  }
  if (object instanceof HwptPaging) {
    const { ioas, nestParent, pasidCompat, autoDomain, enforceCacheCoherency, fault } = object;
    const flags = { nestParent, pasidCompat, autoDomain, enforceCacheCoherency };
    const dirty = object.domain.dirty?.enabled;
    return { ioas: ioas.id, ...flags, fault: fault?.id, dirty, mapped: mappedIn(object) };
  }
  if (object instanceof HwptNested) {
    const { parent, viommu, pasidCompat, fault } = object;
    return { parent: parent.id, viommu: viommu?.id, pasidCompat, fault: fault?.id };
  }
  if (object instanceof IommufdDevice) {
    const { group, device, vdevice } = object;
    const attachments = [...group.attachments].map(([pasid, { handle, devices }]) => [
      pasid,
      handle.hwpt.id,
      handle.pasid,
      [...devices.keys()],
    ]);
    const members = [...group.members].map(({ id }) => id);
    return { rid: device.rid, vdevice: vdevice?.id, members, attachments };
  }
  if (object instanceof Access) return { ioas: object.ioas?.id, needsPin: object.needsPin };
  if (object instanceof FaultQueue) return { poll: object.poll() };
  if (object instanceof Veventq) return { poll: object.poll(), type: object.type };
  if (object instanceof Viommu) {
    return {
      type: object.type,
      hwpt: object.hwpt.id,
      vdevices: [...object.vdevices].map(([virtId, { id }]) => [String(virtId), id]),
      veventqs: [...object.veventqs].map(([type, { id }]) => [type, id]),
      hwQueues: [...object.hwQueues].map(({ id, index, users }) => [id, index, users]),
    };
  }
  return {};
};

/** Frames taken, by what holds them. */
const framesOf = ({ machine }: World) => {
  const { memory } = machine;
  let pins = 0;
  let owners = 0;
  let held = 0;
  let used = 0;
  for (const { frames, base } of memory['regions']) {
    if (!frames) continue;
    used += frames.usedCount;
    for (let frame = 0; frame < frames.count; frame++) {
      const pfn = base / PAGE_BYTES + frame;
      pins += memory.pages.pinCount(pfn);
      owners += memory.pages.ownerCount(pfn);
      if (memory.pages.pinCount(pfn) + memory.pages.ownerCount(pfn) > 0) held++;
    }
  }
  return { pins, owners, drivers: used - held };
};

/** What DMA reaches at the probed addresses, per device and PASID. */
const reachOf = ({ machine }: World) =>
  machine.endpoints.map(({ rid, name }) => {
    const agent = machine.unitOf({ rid } as never)?.agent;
    const pages = PROBES.flatMap((start) =>
      [...Array(PROBED_PAGES).keys()].map((n) => start / PAGE_BYTES + n),
    );
    const reach = PROBED_PASIDS.map((pasid) =>
      pages.map((pfn) =>
        (agent?.translatePage(rid, pasid, pfn, PROT.READ) ?? -1) < 0 ? '.' : 'x',
      ),
    );
    return [name, ...reach.map((reached) => reached.join(''))];
  });

const mockStateOf = ({ unit, machine, context }: World) => {
  if (!(unit instanceof MockUnit)) return [];
  const hwpts = context.objects.all().filter((object) => 'domain' in object);
  return machine.endpoints.map((endpoint) => {
    const state = unit.stateOf(endpoint);
    const domains = [...(state?.domains ?? [])].map(([pasid, domain]) => [
      pasid,
      hwpts.find((hwpt) => (hwpt as HwptPaging).domain === domain)?.id ?? domain.kind,
    ]);
    return { domains, cache: [...(state?.cache ?? [])], virtId: String(state?.virtId) };
  });
};

/** Everything a call can change. */
export const fingerprint = (world: World) => {
  const { context, process, machine, others } = world;
  const names = new PagesNames();
  const objects = context.objects.all().map((object) => ({
    id: object.id,
    kind: object.kind,
    users: object.users,
    ...detailsOf(object, names),
  }));
  const files = filesOf(process);
  return {
    ids: context.objects.idsInUse,
    objects,
    pages: names.describe(),
    vfioIoas: context.vfioIoas?.id,
    perProcess: context.accountPerProcess,
    groups: [...context.groups.keys()].map(({ rids }) => [...rids]),
    descriptors: [...Array(PROBED_DESCRIPTORS).keys()].map(
      (fd) => files.get(fd)?.operations.name ?? '',
    ),
    accounts: [process, ...others].map(({ pinnedPages, lockedPages, user }) => [
      pinnedPages,
      lockedPages,
      user.lockedPages,
    ]),
    endpoints: machine.endpoints.map(({ name }) => name),
    frames: framesOf(world),
    reach: reachOf(world),
    mock: mockStateOf(world),
  };
};

/** See {@link fingerprint}. */
export type Fingerprint = ReturnType<typeof fingerprint>;
