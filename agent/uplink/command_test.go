package uplink

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

func TestCommandsAreChecked(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	k, err := sign.OpenOrCreate(t.TempDir(), true, now)
	if err != nil {
		t.Fatal(err)
	}
	good := fleet.Command{Schema: fleet.CommandSchema, Verb: "vm-stop", Node: "n-1", Nonce: "a", NotAfter: now.Add(time.Minute)}
	with := func(change func(*fleet.Command)) fleet.Command {
		c := good
		change(&c)
		return c
	}
	signed := func(c fleet.Command) []byte {
		e, _, err := sign.SignJSON(k.Operator, images.CommandType, c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	byReconciler, _, err := sign.SignJSON(k.Reconciler, images.CommandType, good)
	if err != nil {
		t.Fatal(err)
	}
	wrongSigner, err := json.Marshal(byReconciler)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	signedBytes := func(payload []byte) []byte {
		e, err := sign.Sign(k.Operator, images.CommandType, payload)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	c := &Commands{Roots: k.Roots(), Delegations: k.Delegations}
	for _, tc := range []struct {
		name string
		data []byte
		want fleet.ReasonCode // empty: carried out
	}{
		{"good", signed(good), ""},
		{"replayed", signed(good), fleet.ReasonCommandReplayed},
		{"unsigned", unsigned, fleet.ReasonCommandSignature},
		{"not JSON", []byte("\xff\x00"), fleet.ReasonCommandSignature},
		{"bad UTF-8, signed", signedBytes([]byte(strings.Replace(string(unsigned), `"n-1"`, "\"n-1\",\"x\":\"\xff\"", 1))), fleet.ReasonCommandSignature},
		{"ten thousand deep", []byte(strings.Repeat(`{"payload":`, 10000)), fleet.ReasonCommandSignature},
		{"a hundred deep, signed", signedBytes([]byte(strings.Replace(string(unsigned), `"n-1"`, `"n-1","x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100), 1))), fleet.ReasonCommandSignature},
		{"1 MB", append(signed(with(func(c *fleet.Command) { c.Nonce = "d" })), bytes.Repeat([]byte(" "), 1<<20)...), fleet.ReasonCommandSignature},
		{"signed by the reconciler", wrongSigner, fleet.ReasonCommandSignature},
		{"another node", signed(with(func(c *fleet.Command) { c.Node = "n-2" })), fleet.ReasonCommandOther},
		{"another verb", signed(with(func(c *fleet.Command) { c.Verb = "wipe" })), fleet.ReasonCommandOther},
		{"old", signed(with(func(c *fleet.Command) { c.Nonce, c.NotAfter = "b", now.Add(-time.Second) })), fleet.ReasonCommandStale},
		{"holds for ever", signed(with(func(c *fleet.Command) { c.Nonce, c.NotAfter = "c", now.AddDate(1, 0, 0) })), fleet.ReasonCommandStale},
		{"no nonce", signed(with(func(c *fleet.Command) { c.Nonce = "" })), fleet.ReasonCommandReplayed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problem := c.check("n-1", "vm-stop", tc.data, now)
			var got fleet.ReasonCode
			if problem != nil {
				got = problem.Reason
			}
			if got != tc.want {
				t.Errorf("check = %q (%+v); want %q", got, problem, tc.want)
			}
		})
	}
}
