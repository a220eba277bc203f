"""What models are told beside the bars: events, leaders and the market's regime."""
