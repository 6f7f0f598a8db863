// What is measured: one unit of each operation, and the process that measures it.

const dma = (op, what) => ({ op, what, run: ['dma.mjs', op] });
const control = (op, what) => ({ op, what, run: ['control.mjs', op] });
const commands = (op, what) => ({ op, what, run: ['commands.mjs', op] });
const scale = (op, what) => ({ op, what, run: ['scale.mjs'] });

/** All operations, in the order of the tables. */
export const OPERATIONS = [
  dma('translate-hit', 'translate one page, TLB hit (256 pages, random order)'),
  dma('dma-hit', 'read 4 bytes by `Endpoint.dmaRead`, TLB hit'),
  dma('ats-hit', 'answer a translation request, TLB hit'),
  dma('stage1-miss', 'TLB miss, stage 1, 4 levels (65,536 pages, random order)'),
  dma('stage2-miss', 'the same, stage 2, 4 levels'),
  dma('nested-miss', 'the same, 4-level stage 1 over 4-level stage 2: 24 reads'),
  control('attach-detach', 'attach a stage-1 domain to a blocked device, and block it again'),
  control('attach-detach-stage2', 'the same with a stage-2 domain'),
  control('attach-detach-pasid', 'the same for one PASID'),
  control('replace', 'put another stage-1 domain in place of the attached one'),
  control('replace-pasid', 'the same for one PASID'),
  control('map-unmap', 'map one page, unmap it, wait for the invalidation; 1,024 others cached'),
  control('user-invalidate', 'IOMMU_HWPT_INVALIDATE of one page of a nested domain'),
  control('user-invalidate-batch', 'the same, 64 commands per call, per command'),
  commands('invalidate-page', 'TLBI_S2_IPA and a SYNC, hardware alone; 2,048 entries cached'),
  commands('invalidate-page-batch', 'the same, 64 commands per SYNC, per command'),
  commands('invalidate-vmid', 'TLBI_S12_VMALL and a SYNC, one entry of it cached by a miss'),
  commands('invalidate-vmid-absent', 'the same, none of it cached, 2,048 others'),
  commands('invalidate-stream', 'CFGI_STE and a SYNC'),
  scale('scale-probe', 'put one device under the unit (10,000 of them)'),
  scale('scale-attach', 'make a domain and attach it to one device (10,000)'),
  scale('scale-map', 'map one page (100 in each of 10,000 domains, tables included)'),
  scale('scale-miss', 'TLB miss, each device in turn: no cache of the processor helps'),
  scale('scale-detach', 'block one device (10,000)'),
];
