package scenario

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

// Context is what an operator of a lab's fleet has: what `ingot serve` wrote,
// with the lab's own ways in.
func Context(ctx context.Context, labName string) (fleet.OperatorContext, error) {
	var oc fleet.OperatorContext
	lc, err := lab.Context(ctx, labName)
	if err != nil {
		return oc, err
	}
	if len(lc.Serve) == 0 {
		return oc, fmt.Errorf("lab %q: %w: its `ingot serve` has written no context yet", labName, operator.ErrUnreachable)
	}
	if err := json.Unmarshal(lc.Serve, &oc); err != nil {
		return oc, fmt.Errorf("read the context of lab %q: %v", labName, err)
	}
	oc.Bus.URLs, oc.HTTP = []string{lc.NATS}, lc.HTTP
	return oc, nil
}
