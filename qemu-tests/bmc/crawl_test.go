package bmc

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/hardware/ipmi"
)

func (b *bench) crawlOptions() ipmi.Options {
	return ipmi.Options{Address: b.ipmi.String(), User: "admin", Password: testPassword, Timeout: 30 * time.Second}
}

func TestCrawl(t *testing.T) {
	b := newBench(t, nil)
	v, stats, err := ipmi.Crawl(t.Context(), b.crawlOptions())
	if err != nil {
		t.Fatal(err)
	}
	x, _ := json.MarshalIndent(v, "", " ")
	t.Logf("%s\n%+v", x, stats)
}
