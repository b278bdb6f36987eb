package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
)

func TestExplain(t *testing.T) {
	code, all, _ := try(t, nil, "explain")
	for _, r := range fleet.Reasons() {
		if code != exitOK || !strings.Contains(all, "\n"+string(r.Code)+" ") {
			t.Errorf("ingot explain = %d and lacks %s", code, r.Code)
		}
		one, stdout, stderr := try(t, nil, "explain", string(r.Code))
		if one != exitOK || !strings.Contains(stdout, r.Meaning) || !strings.Contains(stdout, r.Hint) {
			t.Errorf("ingot explain %s = %d, %q, %q; want meaning and hint", r.Code, one, stdout, stderr)
		}
	}
	_, stdout, _ := try(t, nil, "explain", "-o", "json")
	var list []fleet.Reason
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != len(fleet.Reasons()) {
		t.Errorf("ingot explain -o json lists %d reasons, %v; want %d", len(list), err, len(fleet.Reasons()))
	}
	if _, stdout, _ = try(t, nil, "explain", "vm-down", "-o", "yaml"); !strings.Contains(stdout, "code: vm-down\n") {
		t.Errorf("ingot explain vm-down -o yaml = %q", stdout)
	}
	code, stdout, stderr := try(t, nil, "explain", "VM_silence")
	if code != exitNotFound || stdout != "" || !strings.Contains(stderr, "vm-silent") {
		t.Errorf("ingot explain VM_silence = %d, %q, %q; want %d and a code that is like it", code, stdout, stderr, exitNotFound)
	}
}

var named = regexp.MustCompile(`\bingot((?: [a-z][a-z-]*)+)`)

// Every command and flag that a hint names is there.
func TestHintsNameCommandsThatExist(t *testing.T) {
	root := newApp(nil, nil, func(string) string { return "" }).root()
	seen := 0
	for _, r := range fleet.Reasons() {
		for _, m := range named.FindAllStringSubmatch(r.Hint, -1) {
			seen++
			if why := follow(root, strings.Fields(m[1])); why != "" {
				t.Errorf("%s: hint %q: %s", r.Code, r.Hint, why)
			}
		}
		for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(r.Hint, -1) {
			if flag != "--help" && !hasFlag(root, strings.TrimPrefix(flag, "--")) {
				t.Errorf("%s: hint %q: no command has %s", r.Code, r.Hint, flag)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d commands are named in hints: the test does not see them", seen)
	}
	if follow(root, []string{"node", "fly"}) == "" || follow(root, []string{"nod"}) == "" || hasFlag(root, "no-such") {
		t.Error("a command or flag that is not there is let pass")
	}
}

// follow walks down the commands that words name; what comes after a command
// without children is its argument, or the rest of the sentence.
func follow(c *cobra.Command, words []string) string {
	for _, w := range words {
		if !c.HasSubCommands() {
			return ""
		}
		next, _, err := c.Find([]string{w})
		if err != nil || next == c {
			return c.CommandPath() + " has no command " + w
		}
		c = next
	}
	return ""
}

func hasFlag(c *cobra.Command, name string) bool {
	if c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
		return true
	}
	for _, s := range c.Commands() {
		if hasFlag(s, name) {
			return true
		}
	}
	return false
}
