"""Files of judged data in and out of the feedback store."""
