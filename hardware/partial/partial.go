// Package partial lets a reader tell what it knows so far, while it waits for
// more: the neighbors that have spoken, while other cables are silent.
package partial

import (
	"context"

	"github.com/ingot-metal/ingot/hardware"
)

type key struct{}

// With makes [Tell] call f, with the context that the reader gave.
func With(ctx context.Context, f func(context.Context, hardware.View)) context.Context {
	return context.WithValue(ctx, key{}, f)
}

// Tell tells all that a reader knows so far, where somebody listens. The view
// is no longer the reader's to change.
func Tell(ctx context.Context, v hardware.View) {
	if f, ok := ctx.Value(key{}).(func(context.Context, hardware.View)); ok {
		f(ctx, v)
	}
}
