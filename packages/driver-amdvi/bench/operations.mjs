// What is measured: one unit of each operation, and the process that measures it.

const dma = (op, what) => ({ op, what, run: ['dma.mjs', op] });
const control = (op, what) => ({ op, what, run: ['control.mjs', op] });
const commands = (op, what) => ({ op, what, run: ['commands.mjs', op] });
const scale = (op, what) => ({ op, what, run: ['scale.mjs'] });

/** All operations, in the order of the tables. */
export const OPERATIONS = [
  dma('translate-hit', 'translate one page, IOTLB hit, host table (256 pages, random order)'),
  dma('translate-hit-pasid', 'the same with a PASID, guest table'),
  dma('dma-hit', 'read 4 bytes by `Endpoint.dmaRead`, IOTLB hit'),
  dma('host-miss', 'IOTLB miss, host table of 4 levels (16,384 pages, random order)'),
  dma('guest-miss', 'the same, guest table of 4 levels, accessed bits set already'),
  dma('nested-miss', 'the same, guest table of 4 levels over a host table of 4: 24 reads'),
  control('attach-detach', 'attach a domain to a blocked device, and block it again'),
  control('replace', 'put another domain in place of the attached one'),
  control('map-unmap', 'map one page, unmap it, wait for the invalidation; 1,024 others cached'),
  commands('invalidate-page', 'INVALIDATE_IOMMU_PAGES of a page and a wait; 2,048 entries cached'),
  commands('invalidate-page-batch', 'the same, 64 commands per wait, per command'),
  commands('invalidate-domain', 'the same of a whole domain, one entry cached by a miss'),
  commands('invalidate-domain-absent', 'the same, none of it cached, 2,048 others'),
  commands('guest-invalidate-page', 'INVALIDATE_IOMMU_PAGES GN=1 of a page and a wait'),
  commands('invalidate-device', 'INVALIDATE_DEVTAB_ENTRY and a wait'),
  scale('scale-probe', 'put one device under the unit (10,000 of them)'),
  scale('scale-attach', 'make a domain and attach it to one device (10,000)'),
  scale('scale-map', 'map one page (100 in each of 10,000 domains, tables included)'),
  scale('scale-miss', 'IOTLB miss, each device in turn: no cache of the processor helps'),
  scale('scale-detach', 'block one device (10,000)'),
];
