// What is measured: one unit of each operation, and the process that measures it.

const dma = (op, what) => ({ op, what, run: ['dma.mjs', op] });
const control = (op, what) => ({ op, what, run: ['control.mjs', op] });
const commands = (op, what) => ({ op, what, run: ['commands.mjs', op] });
const scale = (op, what) => ({ op, what, run: ['scale.mjs'] });

/** All operations, in the order of the tables. */
export const OPERATIONS = [
  dma('translate-hit', 'translate one page, IOTLB hit (256 pages, random order)'),
  dma('dma-hit', 'read 4 bytes by `Endpoint.dmaRead`, IOTLB hit'),
  dma('legacy-miss', 'IOTLB miss, legacy mode, 5-level walk (65,536 pages, random order)'),
  dma('second-stage-miss', 'the same in scalable mode, second stage, 5 levels'),
  dma('first-stage-miss', 'the same, first stage, 5 levels, accessed bits set already'),
  dma('nested-miss', 'the same, 4-level first stage over 5-level second stage: 29 reads'),
  control('attach-detach', 'attach a domain to a blocked device, and block it again'),
  control('attach-detach-legacy', 'the same in legacy mode'),
  control('attach-detach-pasid', 'the same for one PASID'),
  control('replace', 'put another domain in place of the attached one, without a window'),
  control('replace-pasid', 'the same for one PASID'),
  control('map-unmap', 'map one page, unmap it, wait for the invalidation; 2,048 others cached'),
  control('user-invalidate', 'IOMMU_HWPT_INVALIDATE of one page of a nested domain'),
  control('user-invalidate-batch', 'the same, 64 entries per call, per entry'),
  commands('invalidate-page', 'iotlb_inv page and a wait, hardware alone; 4,096 entries cached'),
  commands('invalidate-page-batch', 'the same, 64 commands per wait, per command'),
  commands('invalidate-domain', 'iotlb_inv domain and a wait, one entry of it cached by a miss'),
  commands('invalidate-domain-absent', 'the same, none of it cached, 4,096 others'),
  commands('invalidate-pasid-cache', 'pc_inv of one PASID and a wait'),
  scale('scale-probe', 'put one device under the unit (10,000 of them)'),
  scale('scale-attach', 'make a domain and attach it to one device (10,000)'),
  scale('scale-map', 'map one page (100 in each of 10,000 domains, tables included)'),
  scale('scale-miss', 'IOTLB miss, each device in turn: no cache of the processor helps'),
  scale('scale-detach', 'block one device (10,000)'),
];
