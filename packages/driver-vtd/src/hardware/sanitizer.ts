import type { TranslationRequest, Translator } from './translate.ts';

export class Sanitizer {
  used(_rid: number, _pasid: number, _pfn: number, _access: number, _frame: number): void {}
  filled(_request: TranslationRequest, _translator: Translator): void {}
}
