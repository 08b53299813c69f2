"""Tables on the screen and in Markdown."""

from halvit_mm.apis.table import Table

ROWS = [{'name': 'one', 'score': '1.5'}, {'name': '[b]|', 'more': '2'}]


def test_markdown():
    assert str(Table(ROWS)).splitlines() == [
        '| name | score | more |',
        '| --- | --- | --- |',
        '| one | 1.5 | - |',
        r'| [b]\| | - | 2 |',
    ]
    chosen = str(Table(ROWS, columns=['more', 'name'])).splitlines()
    assert chosen[2:] == ['| - | one |', r'| 2 | [b]\| |']


def test_the_screen_shows_every_cell_whole(capsys):
    wide = {f'column {i}': 'x' * 30 for i in range(9)}
    Table([*ROWS, wide], title='three rows').print()
    printed = capsys.readouterr().out
    assert 'three rows' in printed
    assert '[b]|' in printed  # not read as markup
    assert printed.count('x' * 30) == 9
    assert 'column 8' in printed
