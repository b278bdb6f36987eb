package expected

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// csv reads rows under a head that names the columns.
func (f *file) csv(b []byte) {
	r := csv.NewReader(bytes.NewReader(b))
	r.Comment, r.TrimLeadingSpace, r.FieldsPerRecord = '#', true, -1
	head, _, ok := f.row(r)
	if !ok {
		return
	}
	bills := len(head) > 0 && strings.EqualFold(head[0].text, "sku")
	for i, h := range head {
		head[i].text = strings.ToLower(h.text)
		_, machine := machineFields[head[i].text]
		_, sku := skuFields[head[i].text]
		switch {
		case slices.ContainsFunc(head[:i], func(o cell) bool { return o.text == head[i].text }):
			f.bad(h, "column %.80q stands here twice", h.text)
		case bills && i > 0 && !sku:
			f.bad(h, "column %.80q of a bill of materials is not known; known are sku, %s", h.text, known(skuFields))
		case !bills && !machine:
			f.bad(h, "column %.80q is not known; known are %s, and for bills of materials the first column is sku", h.text, known(machineFields))
		}
	}
	for broken := len(f.mistakes) > 0; !broken; {
		cells, at, ok := f.row(r)
		if !ok {
			return
		}
		if len(cells) != len(head) {
			f.bad(at, "this row has %d cells, the head has %d", len(cells), len(head))
			continue
		}
		if bills {
			f.billRow(head, cells)
		} else {
			f.machineRow(head, cells, at)
		}
	}
}

// row is the next row; false at the end of the file, and where it ends in a
// mistake.
func (f *file) row(r *csv.Reader) (cells []cell, at cell, ok bool) {
	texts, err := r.Read()
	var broken *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, cell{}, false
	case errors.As(err, &broken):
		f.bad(cell{line: broken.Line, column: max(broken.Column, 1)}, "%v", broken.Err)
		return nil, cell{}, false
	case err != nil:
		f.bad(cell{line: 1, column: 1}, "%v", err)
		return nil, cell{}, false
	}
	for i, t := range texts {
		line, column := r.FieldPos(i)
		cells = append(cells, cell{strings.TrimSpace(t), line, column})
	}
	at = cells[0]
	return cells, at, true
}

func (f *file) machineRow(head, cells []cell, at cell) {
	var m hardware.ExpectedMachine
	before := len(f.mistakes)
	for i, c := range cells {
		for _, v := range split(head[i].text, c) {
			machineFields[head[i].text](f, &m, v)
		}
	}
	if len(f.mistakes) == before {
		f.addMachine(m, at)
	}
}

func (f *file) billRow(head, cells []cell) {
	var s hardware.SKU
	for i, c := range cells[1:] {
		for _, v := range split(head[i+1].text, c) {
			skuFields[head[i+1].text](f, &s, v)
		}
	}
	f.addSKU(cells[0], s)
}

// split is a cell's values: none where it is empty, several only where the
// column may hold them.
func split(column string, c cell) []cell {
	if c.text == "" {
		return nil
	}
	if !slices.Contains(lists, column) {
		return []cell{c}
	}
	var out []cell
	for text := range strings.SplitSeq(c.text, ";") {
		if text = strings.TrimSpace(text); text != "" {
			out = append(out, cell{text, c.line, c.column})
		}
	}
	return out
}
