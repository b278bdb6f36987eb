package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/hardware"
	hardwarerender "github.com/ingot-metal/ingot/hardware/render"
)

// maxInventoryFile bounds a file of an inventory, which is larger than the
// document where it is written for people.
const maxInventoryFile = 8 << 20

func (a *app) hardwareDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff A B", Short: "How two inventories of one server differ", Args: args(2, "two files of inventories"),
		Long: `Compares two records of one server, ingot.inventory/v1 as JSON or YAML, by the
serials and places of their parts: gone, new, moved, changed, degraded. A file
"-" is read from stdin. Facts that one of the two does not know are no change,
nor is what moves between boots. The exit code is 0 whether they differ or not.`,
		Example: "  ingot hardware diff before.json after.json\n  ingot-agent inventory -o json | ingot hardware diff yesterday.json - -o json | jq -r '.[] | select(.kind == \"gone\") | .part'",
		RunE: func(cmd *cobra.Command, given []string) error {
			if given[0] == "-" && given[1] == "-" {
				return usagef("%s: only one of the files can be stdin", cmd.CommandPath())
			}
			var both [2]hardware.Inventory
			for i, name := range given {
				inv, err := readInventory(name, cmd.InOrStdin())
				if err != nil {
					return err
				}
				both[i] = inv
			}
			changes := hardware.Diff(both[0], both[1])
			return a.show(orEmpty(changes), func(s render.Style) string { return changesPage(s, changes) })
		},
	}
}

// orEmpty makes an empty list show as one.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func changesPage(s render.Style, changes []hardware.Change) string {
	return page(func(w io.Writer) error { return hardwarerender.Page{Width: s.Width}.Changes(w, changes) })
}

// page is what a page of package hardware/render writes; a builder takes all.
func page(write func(io.Writer) error) string {
	var b strings.Builder
	_ = write(&b)
	return b.String()
}

// readInventory reads one inventory from a file, or from stdin.
func readInventory(name string, stdin io.Reader) (hardware.Inventory, error) {
	b, err := readBounded(name, stdin, maxInventoryFile)
	if err != nil {
		return hardware.Inventory{}, fmt.Errorf("read inventory: %w", err)
	}
	inv, err := parseInventory(b)
	if err != nil {
		return inv, fmt.Errorf("read inventory %s: %w", name, err)
	}
	return inv, nil
}

func readBounded(name string, stdin io.Reader, most int64) ([]byte, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: is larger than %d bytes", name, most)
	}
	return b, err
}

func parseInventory(b []byte) (hardware.Inventory, error) {
	trimmed := bytes.TrimSpace(b)
	switch {
	case bytes.HasPrefix(trimmed, []byte("[")):
		return hardware.Inventory{}, fmt.Errorf("it holds a list: take one document out of it, with jq '.[0]'")
	case !bytes.HasPrefix(trimmed, []byte("{")):
		var err error
		if trimmed, err = yaml.YAMLToJSON(trimmed); err != nil {
			return hardware.Inventory{}, fmt.Errorf("it is neither JSON nor YAML: %v", err)
		}
	}
	var compact bytes.Buffer // a document is bounded as it travels, not as it is written for people
	if err := json.Compact(&compact, trimmed); err != nil {
		return hardware.Inventory{}, err
	}
	return hardware.Decode(compact.Bytes())
}
