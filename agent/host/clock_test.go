package host

import (
	"errors"
	"testing"
	"time"
)

// wall is a clock that stands still until it is set.
type wall struct{ t time.Time }

func (w *wall) now() time.Time                       { return w.t }
func (w *wall) set(t time.Time) error                { w.t = t; return nil }
func day(y int, m time.Month) time.Time              { return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC) }
func (w *wall) open(floor time.Time) (*Clock, error) { return openClock(floor, w.now, w.set) }

func TestClock(t *testing.T) {
	floor := day(2026, time.June)
	for _, c := range []struct {
		name      string
		rtc       time.Time
		dates     []time.Time // given to Advance, one after the other
		want      time.Time
		wantState ClockState
		refused   bool // the last of them
	}{
		{"a sound RTC", day(2026, time.September), nil, day(2026, time.September), ClockRTC, false},
		{"a flat battery", day(1970, time.January), nil, floor, ClockFloor, false},
		{"forward", day(1970, time.January), []time.Time{day(2026, time.August)}, day(2026, time.August), ClockHTTP, false},
		{"never back", day(2026, time.September), []time.Time{day(2026, time.August)}, day(2026, time.September), ClockRTC, false},
		{"two seconds are nothing", day(2026, time.September), []time.Time{day(2026, time.September).Add(1999 * time.Millisecond)}, day(2026, time.September), ClockRTC, false},
		{"more than a year", day(1970, time.January), []time.Time{day(2027, time.July)}, floor, ClockFloor, true},
		{"a year by steps", day(1970, time.January), []time.Time{day(2027, time.January), day(2027, time.August)}, day(2027, time.January), ClockHTTP, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &wall{c.rtc}
			clock, err := w.open(floor)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range c.dates {
				_, err = clock.Advance(d)
			}
			if errors.Is(err, ErrClock) != c.refused {
				t.Errorf("Advance = %v; refused want %v", err, c.refused)
			}
			if !w.t.Equal(c.want) || clock.State() != c.wantState {
				t.Errorf("time = %v, %s; want %v, %s", w.t, clock.State(), c.want, c.wantState)
			}
		})
	}
}
