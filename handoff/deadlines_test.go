package handoff

import "testing"

func TestDeadlines_endFromTheInsideOut(t *testing.T) {
	t.Parallel()
	if !(0 < StatementTimeout && StatementTimeout < RegionRequestTimeout && RegionRequestTimeout < EdgeResponseTimeout) {
		t.Errorf("statement %s < region %s < edge %s does not hold", StatementTimeout, RegionRequestTimeout, EdgeResponseTimeout)
	}
}
