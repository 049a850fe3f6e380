"""Runs tslab notebooks headless: `run_notebooks.py --check|--write NOTEBOOK...`.

A notebook passes when every cell runs and every cell that was committed with a picture shows one again; one without any picture fails, because
showing is what notebooks are for here. For a failing cell its source and its stderr are printed (nbclient's own message is empty for tslab).
"""

import pathlib
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

SECONDS_PER_CELL = 300


def has_picture(cell):
    return any('image/png' in output.get('data', {}) for output in cell.get('outputs', []))


def said(cell):
    """What a cell wrote to stderr, and its errors."""
    lines = []
    for output in cell.get('outputs', []):
        if output.output_type == 'stream' and output.name == 'stderr':
            lines.append(output.text)
        elif output.output_type == 'error':
            lines.append(f'{output.ename}: {output.evalue}')
    return '\n'.join(lines)


def run(path, write):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    expected = [has_picture(cell) for cell in code]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    options = {'timeout': SECONDS_PER_CELL, 'startup_timeout': SECONDS_PER_CELL, 'kernel_name': 'tslab'}
    client = NotebookClient(notebook, resources={'metadata': {'path': str(path.parent)}}, **options)
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        # The last cell that was started is the one that failed.
        failing = next((cell for cell in reversed(code) if cell.execution_count is not None or cell.outputs), code[0])
        source = '\n'.join('    ' + line for line in failing.source.splitlines())
        return f'cell {code.index(failing) + 1} of {len(code)} failed ({type(error).__name__}):\n{source}\n{said(failing)}'
    except RuntimeError as error:  # jupyter_client's, when the kernel does not start in time
        return str(error)
    for number, (cell, picture) in enumerate(zip(code, expected), start=1):
        if picture and not has_picture(cell):
            return f'cell {number} of {len(code)} was committed with a picture and shows none now'
    if not any(has_picture(cell) for cell in code):
        return 'no cell shows a picture (image/png)'
    if write:
        for cell in code:
            cell.metadata.pop('execution', None)  # run times: they would differ at every run
        nbformat.write(notebook, path)
    return None


def main(mode, paths):
    failed = 0
    for path in map(pathlib.Path, paths):
        problem = run(path, mode == '--write')
        failed += problem is not None
        print(f'ok      {path}' if problem is None else f'FAILED  {path}: {problem}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
