export * from './contract.ts';
export * from './define-driver.ts';
export * from './domains.ts';
export * from './faults.ts';
export * from './host-memory.ts';
export * from './migration.ts';
export * from './vendor-data.ts';
export * from './viommu-backend.ts';
