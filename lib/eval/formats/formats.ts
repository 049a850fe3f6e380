import { type OpenedFormat, openFormat } from './format';
import { gqaFormat } from './gqa';
import { mmBenchFormat } from './mmbench';
import { mmeFormat } from './mme';
import { popeFormat } from './pope';
import { rowsFormat } from './rows';
import { scienceQaFormat } from './science_qa';
import { textVqaFormat, vizWizFormat, vqaFormat } from './vqa';

type Open = (fields: unknown, mapping: string) => OpenedFormat;

/** Layouts of files by the name that a mapping calls them. */
export const FORMATS: Readonly<Record<string, Open>> = {
  pope: (fields, mapping) => openFormat(popeFormat, fields, mapping),
  vqa: (fields, mapping) => openFormat(vqaFormat, fields, mapping),
  gqa: (fields, mapping) => openFormat(gqaFormat, fields, mapping),
  textvqa: (fields, mapping) => openFormat(textVqaFormat, fields, mapping),
  vizwiz: (fields, mapping) => openFormat(vizWizFormat, fields, mapping),
  scienceqa: (fields, mapping) => openFormat(scienceQaFormat, fields, mapping),
  mme: (fields, mapping) => openFormat(mmeFormat, fields, mapping),
  mmbench: (fields, mapping) => openFormat(mmBenchFormat, fields, mapping),
  rows: (fields, mapping) => openFormat(rowsFormat, fields, mapping),
};
