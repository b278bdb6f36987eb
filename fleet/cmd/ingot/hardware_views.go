package main

import (
	"errors"
	"strings"

	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/hardware"
	hardwarerender "github.com/ingot-metal/ingot/hardware/render"
)

// refusedLogin makes a refused account exit as what was understood and not
// allowed.
type refusedLogin struct{ error }

func (e refusedLogin) Unwrap() error { return e.error }

// showViews prints one document, or an array of them where there are several.
func (a *app) showViews(views []hardware.View, readings bool) error {
	var docs []any
	for _, v := range views {
		if readings {
			docs = append(docs, v.Readings)
		} else {
			docs = append(docs, v.Inventory)
		}
	}
	var v any = docs
	if len(docs) == 1 {
		v = docs[0]
	}
	var tableErr error
	err := a.show(v, func(render.Style) string {
		var b strings.Builder
		for i, view := range views {
			if i > 0 {
				b.WriteString("\n")
			}
			if readings {
				tableErr = errors.Join(tableErr, hardwarerender.Readings(&b, view.Readings))
			} else {
				tableErr = errors.Join(tableErr, hardwarerender.Table(&b, view.Inventory))
			}
		}
		return b.String()
	})
	return errors.Join(err, tableErr)
}
