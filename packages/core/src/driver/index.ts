export * from './contract.ts';
export * from './define-driver.ts';
