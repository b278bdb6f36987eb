package main

import (
	"testing"
	"time"
)

func TestSourceDate(t *testing.T) {
	if got, err := sourceDate("1780000000"); err != nil || !got.Equal(time.Unix(1780000000, 0)) {
		t.Errorf("sourceDate = %v, %v", got, err)
	}
	if got, err := sourceDate(""); err != nil || !got.IsZero() {
		t.Errorf("sourceDate of nothing = %v, %v", got, err)
	}
	for _, bad := range []string{"yesterday", "-1", "0", "1e9"} {
		if got, err := sourceDate(bad); err == nil {
			t.Errorf("sourceDate(%q) = %v", bad, got)
		}
	}
}
